"""Links to files outside docs/: pictures become part of the site, other files their paths."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

LINK = re.compile(r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\(\.\./(?P<path>[^)#]*)\)")
SITE = "repository"
"""Folder of the site that such pictures are in."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Called by mkdocs with the files of the site."""
    root = Path(config.docs_dir).parent
    for page in files.documentation_pages():
        for link in LINK.finditer(page.content_string):
            name = f"{SITE}/{link['path']}"
            if link["picture"] and files.get_file_from_path(name) is None:
                files.append(File.generated(config, name, abs_src_path=str(root / link["path"])))
    return files


def on_page_markdown(markdown: str, **more: object) -> str:
    """Called by mkdocs with each page's text."""

    def within(link: re.Match[str]) -> str:
        if link["picture"]:
            return f"![{link['text']}]({SITE}/{link['path']})"
        code = link["text"].startswith("`")
        return link["text"] if code else f"{link['text']} (`{link['path']}`)"

    return LINK.sub(within, markdown)
