"""Distributions that look installed: a folder on `sys.path` with metadata and modules."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

SCHEDULE = """\
    from typing import Literal
    from fttool.api import Schedule, hookimpl

    class Flat(Schedule):
        \"\"\"The peak rate throughout.\"\"\"
        name: Literal["{id}"] = "{id}"

        def build(self, ctx):
            return lambda step: 1.0

    @hookimpl
    def fttool_strategies():
        return [Flat]
"""
"""The source of a plugin with one schedule."""


def install(
    site: Path, name: str, points: Mapping[str, str], *, group: str = "fttool.v1", version: str = "1.0", **modules: str
) -> None:
    """Put the distribution `name` into the folder `site`, with entry points of one group and modules by name."""
    metadata = site / f"{name.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    lines = [f"[{group}]", *(f"{point} = {target}" for point, target in points.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for module, source in modules.items():
        (site / f"{module}.py").write_text(textwrap.dedent(source), encoding="utf-8")
