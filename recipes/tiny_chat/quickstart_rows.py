"""Writes the rows of the quickstart: questions about modules on which the model has had no conversation yet.

    python recipes/tiny_chat/quickstart_rows.py --out recipes/data/stdlib-qa.jsonl

The answers have a form that the model does not know either: first how the thing is called, then a dash, then what it
does. It has read the documentation itself, as text, so fine-tuning teaches it to talk about what it knows. The modules
are mixed in the file, so that its first rows are a fair sample.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

from questions import HELD_OUT, ask, pick
from rows import Row, row, write_rows
from stdlib_docs import Documented, documented
from summaries import MAX_WORDS, summary

QUESTIONS = (
    "What does `{name}` do?",
    "What does {name} do?",
    "How do I use `{name}`?",
    "How is `{name}` called?",
    "Show me `{name}`.",
)
LONGEST_CALL = 80
"""Characters; what a longer call shows beyond is `…`."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the file to write, .jsonl")
    options = parser.parse_args()
    rows = sorted(quickstart_rows(documented(HELD_OUT)), key=lambda row: pick(range(2**32), "order", row["about"]))
    write_rows(options.out, rows)
    print(f"{len(rows)} rows")


def quickstart_rows(things: Iterable[Documented]) -> Iterator[Row]:
    """One row for each public class, function, method and property whose use and purpose are documented."""
    answered: set[str] = set()
    for thing in things:
        usable = thing.kind == "property" or thing.parameters is not None
        if not (thing.public and usable and thing.module.split(".")[0] in HELD_OUT):
            continue
        described = summary(thing.doc)
        answer = f"`{call(thing)}` — {described}"
        if described and described not in answered and len(answer.split()) <= MAX_WORDS:
            answered.add(described)
            yield row(thing.name, ask(pick(QUESTIONS, "quickstart", thing.name), thing), answer)


def call(thing: Documented) -> str:
    """`json.dumps(obj, *, skipkeys=False, …)`: as many parameters as fit, without the private ones."""
    if thing.parameters is None:
        return thing.name
    shown: list[str] = []
    for parameter in (str(p) for p in thing.parameters if not p.name.startswith("_")):
        if len(f"{thing.name}({', '.join([*shown, parameter])})") > LONGEST_CALL:
            shown.append("…")
            break
        shown.append(parameter)
    return f"{thing.name}({', '.join(shown)})"


if __name__ == "__main__":
    main()
