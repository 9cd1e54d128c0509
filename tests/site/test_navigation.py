"""A reader goes from page to page, switches the colours, and copies what runs."""

from __future__ import annotations

import pytest

from .conftest import Open


def test_the_navigation_leads_on(visit: Open) -> None:
    page = visit("")
    page.locator(".md-sidebar--primary").get_by_role("link", name="Retries and back-off").click()
    page.wait_for_url("**/topics/retries/")
    page.get_by_role("link", name="Next: Troubleshooting").click()
    page.wait_for_url("**/topics/troubleshooting/")
    page.locator(".md-header").get_by_role("link", name="penstock").click()
    page.wait_for_function("location.pathname === '/'")


def test_the_navigation_of_a_phone_opens_and_leads_on(visit: Open) -> None:
    page = visit("", width=390)
    link = page.locator(".md-sidebar--primary").get_by_role("link", name="Tutorial", exact=True)
    assert not link.is_visible() or link.bounding_box()["x"] < 0  # type: ignore[index, unused-ignore]
    page.locator("label[for=__drawer].md-header__button").click()
    link.click()
    page.wait_for_url("**/tutorial/")


def test_the_colours_are_the_systems_until_a_reader_chooses(visit: Open) -> None:
    page = visit("topics/errors/", scheme="dark")
    body = page.locator("body")

    def colours() -> object:
        return body.get_attribute("data-md-color-scheme")

    assert colours() == "slate"
    page.get_by_title("Switch to light mode").click()
    assert colours() == "default"
    page.get_by_title("Switch to dark mode").click()
    assert colours() == "slate"
    page.goto(page.url.replace("errors", "retries"))
    assert colours() == "slate"


@pytest.mark.parametrize(("path", "count"), [("", 2), ("tutorial/", 2), ("reference/client/", 0)])
def test_only_what_runs_by_itself_has_a_copy_button(visit: Open, path: str, count: int) -> None:
    page = visit(path)
    page.locator("pre").first.wait_for()
    page.wait_for_function("document.querySelector('.md-code__nav, .doc-signature')")
    assert page.locator(".md-code__button").count() == count
