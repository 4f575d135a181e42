"""What pages take from the repository: its address, and the files that they link to."""

import re
import subprocess
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

LINK = re.compile(r"\]\(\.\./(?P<path>[^)#]*)(?P<part>#[^)]*)?\)")
SITE = "repository"
"""Folder of the site that linked files outside docs/ are copied to."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Called by mkdocs with its configuration."""
    found = subprocess.run(
        ["git", "-C", config.docs_dir, "remote", "get-url", "origin"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    config.repo_url = config.repo_url or address(found.stdout.strip())
    return config


def address(remote: str) -> str | None:
    """The page of a repository, without user and password; None for a path."""
    found = re.fullmatch(
        r"(?:(?:https?|ssh|git)://)?(?:[^@/]+@)?([\w-]+(?:\.[\w-]+)+)[:/](.+?)(?:\.git)?/?", remote
    )
    return f"https://{found[1]}/{found[2]}" if found else None


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Called by mkdocs with the files of the site."""
    for page in files.documentation_pages():
        for link in LINK.finditer(page.content_string):
            path = copied(config, link["path"])
            if path and files.get_file_from_path(f"{SITE}/{path}") is None:
                source = str(Path(config.docs_dir).parent / path)
                files.append(File.generated(config, f"{SITE}/{path}", abs_src_path=source))
    return files


def on_page_markdown(markdown: str, config: MkDocsConfig, **more: object) -> str:
    """Called by mkdocs with each page's text."""

    def within(link: re.Match[str]) -> str:
        path = copied(config, link["path"])
        return f"]({SITE}/{path}{link['part'] or ''})" if path else link[0]

    return LINK.sub(within, markdown)


def copied(config: MkDocsConfig, path: str) -> str | None:
    """The file of the repository that a link leads to; of a report, its HTML."""
    root = Path(config.docs_dir).parent
    choices = (str(Path(path).with_suffix(".html")), path)
    return next((each for each in choices if (root / each).is_file()), None)
