"""Formulas as MathML, which browsers draw themselves: the site needs no script from elsewhere."""

import html
import re

from latex2mathml.converter import convert

FORMULA = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\[(\[](?P<tex>.*?)\\[)\]]</(?P=tag)>', re.DOTALL
)


def on_page_content(content: str, **more: object) -> str:
    """Called by mkdocs with each page's HTML."""

    def mathml(match: re.Match[str]) -> str:
        display = "inline" if match["tag"] == "span" else "block"
        return convert(html.unescape(match["tex"]).strip(), display=display)

    return FORMULA.sub(mathml, content)
