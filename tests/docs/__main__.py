"""Write the drawings of the page on architecture anew: `python -m tests.docs`."""

from tests.support.page_blocks import renew

from .drawings import ARCHITECTURE, blocks

renew(ARCHITECTURE, "drawn", blocks())
