"""The benchmarks run, and print what their page promises; a test never asserts a time."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "benchmarks.md"
SCRIPTS = ("training", "memory", "freezing", "regularizers", "start_up", "features", "proof", "sharding")


def promised(script: str) -> list[str]:
    """The keys of a script's output that the page names, dotted: `training.chat.learned_share_of_tokens`."""
    return re.findall(rf"`{script}\.([a-z0-9_.-]+[a-z0-9_-])`", PAGE.read_text(encoding="utf-8"))


@pytest.mark.full
@pytest.mark.parametrize(
    "script", [pytest.param(one, marks=pytest.mark.dist if one == "sharding" else ()) for one in SCRIPTS]
)
def test_it_prints_one_json_object_with_the_promised_keys(script: str) -> None:
    words = [sys.executable, str(HERE / f"{script}.py"), "--quick"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    found: Any = json.loads(done.stdout)
    assert found["benchmark"] == script
    keys = promised(script)
    assert len(keys) >= 4
    for key in keys:
        value = found
        for part in key.split("."):
            assert part in value, f"{key}: there is no '{part}' in {list(value)}"
            value = value[part]
    targets = list(figures(found))
    assert targets
    for one in targets:
        assert one["median"] > 0 and isinstance(one["reached"], bool) and one["target"][0] in "≥≤"


def figures(found: Any) -> Any:
    """All figures that have a target."""
    if isinstance(found, dict):
        if "target" in found:
            yield found
        for value in found.values():
            yield from figures(value)


def test_the_page_gives_every_target() -> None:
    """The numbers that the scripts compare with stand in the page too."""
    page = PAGE.read_text(encoding="utf-8")
    for script in SCRIPTS:
        source = (HERE / f"{script}.py").read_text(encoding="utf-8")
        for number in re.findall(r'^[A-Z_0-9]+ = ([0-9.e-]+)$|"[a-z-]+": (0\.[0-9]+|1\.0)[,}]', source, re.MULTILINE):
            assert next(filter(None, number)) in page, f"{script}.py: {number}"
