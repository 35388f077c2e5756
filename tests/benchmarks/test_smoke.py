"""The benchmarks run, and print what their page promises; a test never asserts a time."""

import importlib.util
import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "benchmarks.md"
SCRIPTS = (
    *("training", "memory", "freezing", "regularizers", "start_up", "features", "proof", "sharding", "preparing"),
    *("estimating", "audit", "near_duplicates", "gains", "choosing", "advice", "head", "why"),
    "searching",
)
WHOLE_PROCESSES = ("memory", "freezing", "start_up", "sharding", "preparing", "estimating", "audit", "head")
"""Those that measure the memory or the start of processes, or start some together."""
MARKS = {
    "sharding": pytest.mark.dist,
    "near_duplicates": pytest.mark.skipif(
        importlib.util.find_spec("datasketch") is None,
        reason="there is nothing to compare with: pip install datasketch",
    ),
}
SMALL = "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))"
"""Starts one of them: a process's high-water mark of memory begins at that of who started it, and this one is large."""


def promised(script: str) -> list[str]:
    """The keys of a script's output that the page names, dotted: `training.chat.learned_share_of_tokens`."""
    return re.findall(rf"`{script}\.([a-z0-9_.-]+[a-z0-9_-])`", PAGE.read_text(encoding="utf-8"))


@pytest.mark.full
@pytest.mark.parametrize("script", [pytest.param(one, marks=MARKS.get(one, ())) for one in SCRIPTS])
def test_it_prints_one_json_object_with_the_promised_keys(
    script: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: Any = json.loads(printed(script, capsys, monkeypatch))
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


def printed(script: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """What it prints on stdout: from this process, which has imported torch already, where it looks at no whole one."""
    words = [str(HERE / f"{script}.py"), "--quick"]
    if script in WHOLE_PROCESSES:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", SMALL, sys.executable, *words]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout
    monkeypatch.syspath_prepend(HERE)
    monkeypatch.setattr(sys, "argv", words)
    runpy.run_path(words[0], run_name="__main__")
    return capsys.readouterr().out


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
