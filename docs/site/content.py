"""What each page's HTML gets: frames in which wide tables scroll, options that do not break in two.

scroll.js and style.css have the rest.
"""

import re

CODE = re.compile(r"<code>([^<]*)</code>")
OPTION = re.compile(r"(?<![\w-])--[\w.-]+")
FRAME = '<div class="scroll" role="region" aria-label="Table"><table class="data">'


def on_page_content(content: str, **more: object) -> str:
    """Called by mkdocs with each page's HTML."""
    content = CODE.sub(lambda code: OPTION.sub(whole, code[0]), content)
    return content.replace("<table>", FRAME).replace("</table>", "</table></div>")


def whole(option: re.Match[str]) -> str:
    """An option that breaks only after a dot."""
    parts = re.split(r"(?<=\.)", option[0])
    return "<wbr>".join(f'<span class="word">{part}</span>' for part in parts)
