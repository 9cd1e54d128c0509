// What scrolls sideways can be reached with the keyboard.
document$.subscribe(() => {
  const focusable = () => {
    for (const box of document.querySelectorAll(".md-typeset__scrollwrap, .md-typeset p:has(> img)")) {
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  };
  new ResizeObserver(focusable).observe(document.body);
});
