"""What the site needs beside the pages, which are written for a forge: called by mkdocs, see `mkdocs.yml`.

A page links to a file outside of `docs/` as the tree has it (`../recipes/wsd.toml`), so that the link works in a clone
and on a forge. The site has no such file, nor the scripts in `docs/`: there the link leads to the repository. And a
folder in the navigation stands for all of its pages, so that a new decision or family is there by itself.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
ROOT = DOCS.parent

_LINK = re.compile(r"\]\((?![a-z]+:|#|/)(?P<path>[^)#\s]+)(?P<rest>(?:#[^)\s]*)?)\)")
"""The target of a Markdown link that is relative; an address, an anchor or an absolute path is left alone."""


def on_config(config: Any) -> Any:
    """Put the pages of a folder in its place in the navigation."""
    config["nav"] = expanded(config["nav"])
    return config


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Let links out of `docs/` lead to the repository."""
    return outward(markdown, page.file.src_uri, config["repo_url"])


def expanded(nav: Any) -> Any:
    """The navigation with each folder (`adr/`) as the list of its pages, by name."""
    if isinstance(nav, list):
        return [expanded(entry) for entry in nav]
    if isinstance(nav, dict):
        return {title: expanded(entry) for title, entry in nav.items()}
    if not nav.endswith("/"):
        return nav
    return [f"{nav}{page.name}" for page in sorted((DOCS / nav).glob("*.md"))]


def outward(markdown: str, page: str, repository: str) -> str:
    """A page with addresses in the repository for links to what is there outside of `docs/`.

    `page` is its path below `docs/`. A link to what is not there stays as it is, and mkdocs refuses it.
    """

    def address(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link["path"]))
        on_the_site = path.startswith("docs/") and not path.endswith(".py")
        if on_the_site or path.startswith("..") or not (ROOT / path).exists():
            return link[0]
        kind = "tree" if (ROOT / path).is_dir() else "blob"
        return f"]({repository}/{kind}/HEAD/{path}{link['rest']})"

    return _LINK.sub(address, markdown)
