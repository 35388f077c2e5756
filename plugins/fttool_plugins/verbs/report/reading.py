"""What a run directory holds for its report: all of it that can be read, and a sentence for each thing that cannot.

A run may be writing its files just now, may have been killed in the middle of a line, or may never have got as far as a
summary; none of that keeps the rest from being told.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fttool.verbs import gist, in_use, is_table
from fttool_plugins.verbs.compare.past import PastRun, read_runs

EXAMPLES = 5
"""Rows that are shown of each reason for which rows were dropped."""
BEGINS = ("started", "resumed", "branched", "restarted")
"""Events after which a run goes on, so that an `ended` before them is not its end."""


@dataclass(kw_only=True)
class Gone:
    """What `dropped.jsonl` lists: rows that are not learned from."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    """By who dropped them, and the reason."""
    examples: dict[tuple[str, str], list[Mapping[str, Any]]] = field(
        default_factory=lambda: defaultdict[tuple[str, str], list[Mapping[str, Any]]](list)
    )


@dataclass(kw_only=True)
class Told:
    """A run, as its directory tells of it."""

    past: PastRun
    """What `fttool compare` reads, too."""
    state: str
    """`finished`, `interrupted`, `diverged`, `failed`, `running`, `killed`, or `unknown`: its end cannot be read."""
    metrics: Sequence[Mapping[str, Any]]
    """The lines of `metrics.jsonl`, by update."""
    events: Sequence[Mapping[str, Any]]
    gone: Gone
    recipe: str
    """The text of `recipe.toml`; empty where there is none."""
    problems: Sequence[str]
    """What is missing or damaged, in sentences."""

    @property
    def summary(self) -> Mapping[str, Any]:
        """`summary.json`; empty while the run goes on, for then it is of an earlier part of it."""
        return {} if self.state == "running" else self.past.summary

    def steps_of(self, event: str) -> list[int]:
        """The updates at which an event happened, in order, each once."""
        steps: list[Any] = [line.get("step") for line in self.events if line["event"] == event]
        return sorted({step for step in steps if _is_step(step)})

    @property
    def last_step(self) -> int | None:
        """The update that the run has come to."""
        if self.summary and self.past.steps is not None:
            return self.past.steps
        return self.metrics[-1]["step"] if self.metrics else None

    @property
    def total_steps(self) -> int | None:
        """The update at which it ends, or was to."""
        if self.summary and self.past.total_steps is not None:
            return self.past.total_steps
        totals = [line["total_steps"] for line in self.events if _is_step(line.get("total_steps"))]
        return totals[-1] if totals else None


def read(paths: Sequence[Path]) -> list[Told]:
    """The runs in the order given; raises `UsageError` naming every path that is not a run directory."""
    return [_told(run) for run in read_runs(paths)]


def _told(run: PastRun) -> Told:
    writing, problems = in_use(run.path), list(run.problems)
    metrics = list(_lines(run.path / "metrics.jsonl", "step", _is_step, problems, writing=writing))
    events = list(_lines(run.path / "events.jsonl", "event", _is_text, problems, writing=writing))
    state = _state(run, events, writing)
    if state in ("running", "killed"):  # said by how it ended, in better words
        problems = [problem for problem in problems if "summary.json" not in problem]
    return Told(
        past=run,
        state=state,
        metrics=sorted(metrics, key=lambda line: line["step"]),
        events=events,
        gone=_gone(run.path / "dropped.jsonl", problems, writing),
        recipe=_text(run.path / "recipe.toml"),
        problems=problems,
    )


def _state(run: PastRun, events: Sequence[Mapping[str, Any]], writing: bool) -> str:
    """How it ended, or that it did not: a summary may be of the part before the run was resumed."""
    turns = [line["event"] for line in events if line["event"] in (*BEGINS, "ended")]
    over = not turns or turns[-1] == "ended"
    if run.summary and over:
        return run.status if isinstance(run.summary.get("status"), str) else "unknown"
    if writing:
        return "running"
    return "unknown" if over and (run.path / "summary.json").exists() else "killed"


def _lines(
    file: Path, needed: str, fits: Callable[[object], bool], problems: list[str], *, writing: bool
) -> Iterator[Mapping[str, Any]]:
    """The lines of a file that can be read, one by one; what can not is added to the `problems`.

    A line says something where what it has under the key `needed` fits. The last one of a file that is being written
    may be half a line, which is not worth a word.
    """
    bad: list[int] = []
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                values = _parsed(line)
                if values is not None and fits(values.get(needed)):
                    yield values
                elif not (writing and not line.endswith(b"\n")):
                    bad.append(number)
    except FileNotFoundError:
        return
    except OSError as fault:
        problems.append(f"{file.name} cannot be read: {gist(fault)}")
    if bad:
        more = f" and {len(bad) - 5:,} more" if len(bad) > 5 else ""
        which = f"line {bad[0]} is" if len(bad) == 1 else f"lines {', '.join(map(str, bad[:5]))}{more} are"
        problems.append(f"{file.name}: {which} damaged and left out here")


def _parsed(line: bytes) -> Mapping[str, Any] | None:
    try:
        values: Any = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return values if is_table(values) else None


def _is_step(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _gone(file: Path, problems: list[str], writing: bool) -> Gone:
    """Counted line by line: there may be millions."""
    gone = Gone()
    for row in _lines(file, "reason", _is_text, problems, writing=writing):
        why = (str(row.get("by", "")), row["reason"])
        gone.counts[why] += 1
        if len(gone.examples[why]) < EXAMPLES:
            gone.examples[why].append(row)
    return gone


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
