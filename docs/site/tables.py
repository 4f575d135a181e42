"""Puts each table into a frame of its own, in which a wide one scrolls (scroll.js, style.css)."""

import re


def on_page_content(content: str, **more: object) -> str:
    """Called by mkdocs with each page's HTML."""
    frame = '<div class="scroll" role="region" aria-label="Table"><table class="data">'
    return re.sub("<table>", frame, content).replace("</table>", "</table></div>")
