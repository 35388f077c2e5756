"""The README as a package index shows it: links that are relative in the tree lead to the project's pages."""

import re
from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface

PICTURES = (".png", ".svg")
"""Shown by their bytes, not by the repository's page about them."""


class Readme(MetadataHookInterface):
    """Fills in `readme`, which `pyproject.toml` declares as dynamic."""

    def update(self, metadata: dict) -> None:
        """Called by hatchling with the `[project]` table."""
        root = Path(self.root)
        text = (root / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": absolute(text, metadata["urls"]["Source"], root),
        }


def absolute(text: str, source: str, root: Path) -> str:
    """Markdown with the targets of its relative links as addresses in the repository `source`, on its main branch."""

    def address(link: re.Match[str]) -> str:
        path = root / link["path"]
        kind = "tree" if path.is_dir() else "raw" if path.suffix in PICTURES else "blob"
        return f"]({source}/{kind}/HEAD/{link['path']}{link['rest']})"

    return re.sub(r"\]\((?![a-z]+:|#|/)(?P<path>[^)#\s]+)(?P<rest>(?:#[^)\s]*)?)\)", address, text)
