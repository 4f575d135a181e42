"""Markdown: text of others stays text in every renderer, and shows as it is."""

from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rotvq.text import markdown, printable

markdown_it = pytest.importorskip("markdown_it")
python_markdown = pytest.importorskip("markdown")

EXTENSIONS = ["extra", "admonition", "toc", "sane_lists", "wikilinks"]
RENDERERS = {
    "CommonMark": markdown_it.MarkdownIt("commonmark").render,
    "GitHub's tables": markdown_it.MarkdownIt(
        "js-default", {"html": True, "linkify": False}
    ).render,
    "Python-Markdown": lambda text: python_markdown.markdown(text, extensions=["tables"]),
    "Python-Markdown, all": lambda text: python_markdown.markdown(text, extensions=EXTENSIONS),
}

EVIL = [
    "<script>alert(1)</script>",
    "</details><img src=x onerror=alert(1)>",
    "&lt;script&gt; &#60;b&#62; &amp;",
    "[click](javascript:alert(1)) ![x](y) [a]: b",
    "<javascript:alert(1)> <https://a.example>",
    "`code` ``two`` ```three",
    "*em* **strong** _em_ __strong__ snake_case_name ~~gone~~ ^up^",
    "# heading #",
    "- item",
    "+ item",
    "1. item",
    "1) item",
    "> quote",
    "---",
    "===",
    "a | b | c",
    r"a\|b \\ \* \<b>",
    '{: onclick="alert(1)" } { #id .class }',
    "!!! danger",
    ": definition",
    "[TOC] [^1] *[HTML]: x [[wiki]]",
    "$x$ $$y$$",
    "line\nanother\r\r<b>third</b>\u2028fourth\x0bfifth\x85sixth",
    "\x02klzzwxh:0\x03 \x00",
    "    four spaces",
    "\ttab",
    "~~~\nfence",
    "www.example.com http://example.com a@example.com",
    "&copy; &#x3c;",
    "$(touch x) 'a' \"b\"",
]  # fmt: skip


class Shape(HTMLParser):
    """The elements of a page with the names of their attributes, and its text."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, *(name for name, _ in attrs)))

    def handle_data(self, data):
        self.text += data


PLACES = {
    "a line": "{}\n",
    "a heading": "# {}\n",
    "a quote": "> {}\n",
    "an item": "- {}: text\n",
    "a cell": "| a | b |\n| --- | --- |\n| {} | **{}** |\n",
    "an image": "![{}](figures/a.png)\n",
    "a word": "before {} after\n",
    "code in HTML": "| a |\n| --- |\n| <code>{}</code> |\n",
}
PLAIN = "plain words"


def visible(text):
    return printable(" ".join(text.split()))


def rendered(renderer, place, text):
    """What is rendered, and what should be: the page of a plain text with this one in its place."""
    render, template = RENDERERS[renderer], PLACES[place]
    found = Shape(render(template.replace("{}", markdown(text))))
    plain = Shape(render(template.replace("{}", markdown(PLAIN))))
    expected = plain.text.replace(PLAIN, visible(text))
    return (found.elements, visible(found.text)), (plain.elements, visible(expected))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("renderer", RENDERERS)
@pytest.mark.parametrize("text", EVIL)
def test_text_is_no_markup_and_shows_as_it_is(renderer, place, text):
    found, expected = rendered(renderer, place, text)
    assert found == expected


SOUP = st.text("<>&\\`*_[](){}#+-.!|~$@^=:/%?\"'\n\r\t 01aB\u202e\x1b", min_size=1, max_size=30)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("renderer", RENDERERS)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(text=SOUP.filter(str.strip))
def test_any_mix_of_special_characters_is_text(renderer, place, text):
    found, expected = rendered(renderer, place, text)
    assert found == expected


@pytest.mark.parametrize("renderer", RENDERERS)
@pytest.mark.parametrize("text", EVIL)
def test_a_line_of_a_code_block_shows_as_it_is(renderer, text):
    found = Shape(RENDERERS[renderer](f"# Title\n\n    a{printable(text)}\n"))
    plain = Shape(RENDERERS[renderer]("# Title\n\n    a\n"))
    assert found.elements == plain.elements
    assert f"a{printable(text)}".rstrip() in found.text
