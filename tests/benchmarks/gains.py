"""Is the sign of what `fttool audit --measure` predicts right? Faults of ten kinds, planted. One JSON object.

    python tests/benchmarks/gains.py            fifteen minutes on two cores
    python tests/benchmarks/gains.py --quick    two kinds, a few updates

In eight cases the rows that a filter would suspect are spoiled, and leaving them out must be predicted to gain. In two
the filter is wrong: the rows that it suspects are the good ones, all others are spoiled, and leaving them out must be
predicted to lose. What is held out is good in all cases. Rows are the quickstart's, and short texts of two classes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import report

from fttool.verbs import recipe_of, survey
from fttool_plugins.verbs.audit.gains import Bounds, Pool, pairs
from fttool_plugins.verbs.audit.report import Suspects
from fttool_plugins.verbs.audit.trials import BATCH, Trial

ROWS = Path(__file__).parents[2] / "recipes" / "data" / "stdlib-qa.jsonl"
HELD_OUT, TRAIN, SPOILED = 40, 240, 0.3
RIGHT = 0.9
"""Share of the cases in which the predicted sign is right."""
GERMAN = "der die das und nicht ein eine mit auf ist wird von den dem im zu für sich als auch es an werden"
SPORT, FOOD = ("goal", "team", "match", "score", "league"), ("soup", "bread", "salt", "oven", "spice")
Row = dict[str, Any]
Spoil = Callable[[str, str, random.Random], str]


def _letters(question: str, answer: str, rng: random.Random) -> str:
    return "".join(rng.choice("qxzjvkw ") for _ in answer)


def _refusal(question: str, answer: str, rng: random.Random) -> str:
    return "I'm sorry, but as an AI language model I cannot help with that."


def _loop(question: str, answer: str, rng: random.Random) -> str:
    return " ".join([answer.split("(")[0]] * 12)


def _mojibake(question: str, answer: str, rng: random.Random) -> str:
    return "".join(f"{letter}\u00e2\u20ac" if rng.random() < 0.3 else letter for letter in answer)


def _foreign(question: str, answer: str, rng: random.Random) -> str:
    words = GERMAN.split()
    return " ".join(rng.choice(words) for _ in answer.split())


def _markup(question: str, answer: str, rng: random.Random) -> str:
    return "".join(f'<td class="c{rng.randrange(99)}"><b>{word}</b></td>' for word in answer.split()[:8])


def _echo(question: str, answer: str, rng: random.Random) -> str:
    return question


SPOILS: Mapping[str, Spoil] = {
    "random-letters": _letters,
    "refusals": _refusal,
    "loops": _loop,
    "mojibake": _mojibake,
    "another-language": _foreign,
    "markup": _markup,
    "echoed-prompts": _echo,
}


def chat(question: str, answer: str) -> Row:
    """A conversation of a question and its answer."""
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def chats(spoil: Spoil, *, wrong: bool) -> tuple[list[Row], set[int]]:
    """Held-out rows, then rows of which a share is spoiled, and the places of the suspects: those, or the others."""
    rng = random.Random(3)
    every = [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()]
    turns = [[turn["content"] for turn in row["messages"]] for row in rng.sample(every, HELD_OUT + TRAIN)]
    count = int((1 - SPOILED if wrong else SPOILED) * TRAIN)
    spoiled = set(rng.sample(range(HELD_OUT, HELD_OUT + TRAIN), count))
    rows = [chat(q, spoil(q, a, rng) if place in spoiled else a) for place, (q, a) in enumerate(turns)]
    return rows, (set(range(HELD_OUT, HELD_OUT + TRAIN)) - spoiled) if wrong else spoiled


def flipped() -> tuple[list[Row], set[int]]:
    """Texts of two classes, of which a share has the other one."""
    rng = random.Random(3)
    words = {"sport": SPORT, "food": FOOD}
    common = ["the", "a", "very", "new", "old", "good", "today", "again", "some", "about"]
    rows: list[Row] = []
    for place in range(HELD_OUT + TRAIN):
        label = ("sport", "food")[place % 2]
        rows.append({"text": " ".join(rng.sample(words[label], 2) + rng.sample(common, 5)), "label": label})
    spoiled = set(rng.sample(range(HELD_OUT, HELD_OUT + TRAIN), int(SPOILED * TRAIN)))
    for place in spoiled:
        rows[place]["label"] = "food" if rows[place]["label"] == "sport" else "sport"
    return rows, spoiled


def predicted(rows: Sequence[Row], suspected: set[int], recipe: Mapping[str, Any], bounds: Bounds) -> list[float]:
    """The gain of leaving the suspects out, one a seed."""
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "rows.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        loaded = recipe_of({"recipe": 1, **recipe, "data": {"train": [{**recipe["data"], "path": str(file)}]}})
        datasets = survey(loaded)
        numbered = [(example.origin, row) for example, row in zip(datasets[0].examples, rows, strict=True)]
        origins = frozenset(numbered[place][0] for place in suspected)
        pool = Pool(train=[numbered[HELD_OUT:]], held_out=numbered[:HELD_OUT], place=0, bad=origins)
        suspects = Suspects(filter="planted", about="", rows=0, share=0, reasons={}, worst=[], origins=origins)
        trial = Trial(loaded, datasets, 0, bounds.updates, Path(name) / "runs")
        trial.folder.mkdir()
        return list(pairs(pool, [suspects], trial, bounds, lambda _: None)["planted"])


CHAT: Mapping[str, Any] = {"model": {"source": "builtin:tiny-chat"}, "data": {"format": "messages"}}
CLASSES: Mapping[str, Any] = {
    "model": {"source": "builtin:tiny-chat"},
    "task": {"name": "classification"},
    "data": {"format": "labelled"},
}


def cases() -> dict[str, tuple[int, Mapping[str, Any], list[Row], set[int]]]:
    """By name: the sign that is right, the recipe, the rows, and which of them are suspected."""
    made = {name: (1, CHAT, *chats(spoil, wrong=False)) for name, spoil in SPOILS.items()}
    made["flipped-classes"] = (1, CLASSES, *flipped())
    for name in ("random-letters", "refusals"):
        made[f"good-rows-beside-{name}"] = (-1, CHAT, *chats(SPOILS[name], wrong=True))
    return made


def main() -> None:
    """Predict the gain of each case, and count the right signs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two cases, one seed, ten updates")
    options = parser.parse_args()
    bounds = Bounds(updates=10, seeds=1) if options.quick else Bounds(updates=30, seeds=2, minutes=60)
    chosen = dict(list(cases().items())[-2:]) if options.quick else cases()
    found: dict[str, Any] = {"benchmark": "gains", "machine": report.machine(), "rows_of_an_update": BATCH, "cases": {}}
    right = 0
    for name, (sign, recipe, rows, suspected) in chosen.items():
        began = time.monotonic()
        gains = predicted(rows, suspected, recipe, bounds)
        mean = sum(gains) / len(gains)
        right += mean * sign > 0
        found["cases"][name] = {"sign": sign, "gains": [round(gain, 4) for gain in gains], "right": mean * sign > 0}
        print(f"{name}: {mean:+.3f}, {time.monotonic() - began:.0f} s", file=sys.stderr)
    found["right"], found["of"] = right, len(chosen)
    found["right_share"] = report.figure([right / len(chosen)], at_least=RIGHT)
    report.show(found)


if __name__ == "__main__":
    main()
