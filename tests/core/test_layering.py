"""Core imports no strategy, names none, and imports nothing upwards; strategies import nothing but `fttool.api`."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from pathlib import Path

from importlinter.cli import lint_imports

from fttool.contracts import FAMILIES
from fttool.plugins import Plugins


def test_the_layers_hold() -> None:
    assert lint_imports(config_filename=str(Path(__file__).parents[2] / "pyproject.toml"), no_cache=True) == 0


# -- core knows no strategy by name ------------------------------------------------------------------------------

CORE = Path(__file__).parents[2] / "core" / "fttool"
NAMING = {
    "cli/init.py": "it writes recipes, which name what they use",
    "cli/not_verbs.py": "words that people type for a verb",
    "cli/plugins.py": "examples of what to type",
    "cli/run.py": "examples of what to type",
}
"""Files of core that name built-in strategies, and why."""
NOT_A_NAME = {
    *("all", "auto", "completion", "config", "folder", "full", "json", "label", "length", "loss", "none", "overlap"),
    *("assistant", "bf16", "fp16", "messages", "packed", "padded", "text", "token-classification", "words", "zero"),
}
"""Ids that are words of core's own too: roles, formats of numbers, keys of rows, the hub's names of tasks …"""


def named_strategies(file: Path, ids: Mapping[str, set[str]]) -> set[str]:
    """What of these family's tables → ids stands in the strings of a file, docstrings and a family's default aside."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    left_out = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    left_out |= {id(key.value) for call in calls if ast.unparse(call.func) == "Place" for key in call.keywords}
    found: set[str] = set()
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Constant) and isinstance(node.value, str)) or id(node) in left_out:
            continue
        every = set[str]().union(*ids.values()) - NOT_A_NAME
        found |= {node.value} & every
        for table, names in ids.items():  # `freezing = "full"`, `schedule.name=wsd`
            last = table.rpartition(".")[2]
            said = re.findall(rf"\b{last}(?:\.name)?\s*=\s*[{{\[]?(?:name\s*=\s*)?\"?([a-z0-9-]+)", node.value)
            found |= names & set(said)
    return found


def test_core_knows_no_strategy_by_name(tmp_path: Path) -> None:
    plugins = Plugins.of()
    ids = {kind.place.table: {one.id() for one in plugins.family(family)} for family, kind in FAMILIES.items()}
    files = [file for file in CORE.rglob("*.py") if not file.is_relative_to(CORE / "testing")]
    found = {file.relative_to(CORE).as_posix(): named_strategies(file, ids) for file in files}
    assert {name: names for name, names in found.items() if names and name not in NAMING} == {}
    assert all(found[name] for name in NAMING), "an exception that is none"
    planted = tmp_path / "planted.py"
    planted.write_text('"""`wsd`."""\nhint = \'set sharding.name = "fsdp"\'\nif chosen.id() == "ewc":\n    "cosine"\n')
    assert named_strategies(planted, ids) == {"fsdp", "ewc"}
