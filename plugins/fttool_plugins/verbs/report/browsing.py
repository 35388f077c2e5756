"""The page of a report: of one run all that is known, of several what tells them apart and their curves together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from fttool.verbs import children, format_value, html_element, html_page, html_table, is_table
from fttool_plugins.verbs.compare.past import Measured, differences, number, table_at
from fttool_plugins.verbs.report.curves import charts_of, curves, short
from fttool_plugins.verbs.report.ending import change, next_step, sentence
from fttool_plugins.verbs.report.fates import rows
from fttool_plugins.verbs.report.reading import Told
from fttool_plugins.verbs.report.series import RETENTION, TRAINING

MADE_BY = "fttool report"
"""Stands in each page, by which one is known that may be written anew."""
NONE = "–"
MOST_ROWS = 60
"""Rows of a metric's table, of the events, and of other lists that have no end, on the page."""


def browsed(runs: Sequence[Told]) -> str:
    """The whole file."""
    if len(runs) == 1:
        return html_page(f"Run {runs[0].past.label}", *_one(runs[0]), made_by=MADE_BY)
    return html_page(f"{len(runs)} runs", *_several(runs), made_by=MADE_BY)


def _one(told: Told) -> Iterator[str]:
    yield html_element("h1", told.past.label)
    yield html_element("p", sentence(told), kind=f"ending {'' if told.state == 'finished' else 'unwell'}".strip())
    yield html_element("p", *_about(told), kind="soft")
    yield html_element("div", *_cards(told), kind="cards")
    yield from _problems(told)
    yield html_element("h2", "Gained and forgotten")
    yield from _gained(told)
    yield from curves([told])
    yield from _answers(told)
    yield html_element("h2", "Rows")
    yield from rows(told)
    yield from _tables(told)
    yield from _forecasts(told)
    yield html_element("h2", "Recipe")
    yield from _recipe(told)
    yield html_element("h2", "What happened")
    yield from _events(told)
    yield html_element("p", "Next: ", html_element("code", next_step(told)))


def _several(runs: Sequence[Told]) -> Iterator[str]:
    yield html_element("h1", f"{len(runs)} runs")
    yield _wide(
        html_table(
            ["run", "how it ended", "updates", "tokens/s", "peak memory"],
            [(told.past.label, sentence(told), _of(told), _speed(told), _peak(told)) for told in runs],
            [2, 3, 4],
        )
    )
    yield html_element("h2", "What differs")
    differs = differences([told.past for told in runs])
    head = ["", *(told.past.label for told in runs)]
    yield (
        _wide(html_table(head, [(key, *map(_value, values)) for key, values in differs.items()]))
        if differs
        else html_element("p", "Nothing: recipe, rows, model, code and machine are the same.")
    )
    yield html_element("h2", "Gained and forgotten")
    yield from _gained_side_by_side(runs)
    yield from curves(runs)
    for told in runs:
        yield html_element("h2", told.past.label)
        yield from _problems(told)
        yield from _answers(told, heading="h3")
        yield from rows(told)
        yield from _recipe(told)
        yield html_element("p", "Next: ", html_element("code", next_step(told)))


def _wide(table: str) -> str:
    """A table that moves sideways by itself where the page is narrower."""
    return html_element("div", table, kind="wide")


# -- how it is, at a glance ----------------------------------------------------------------------------------------


def _about(told: Told) -> Iterator[str]:
    recipe = told.past.recipe
    task, model = recipe.get("task.name", recipe.get("task")), recipe.get("model.source.path")
    times = [str(line["time"])[:19].replace("T", " ") for line in told.events if "time" in line]
    said = [f"task {task}" if task else "", f"model {model}" if model else ""]
    said += [f"from {times[0]} to {times[-1]} UTC" if times else "", str(told.past.path)]
    said.append(f"read on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    yield " · ".join(filter(None, said))


def _cards(told: Told) -> Iterator[str]:
    summary, tokens = told.summary, number(told.summary.get("train_tokens"))
    parameters, trained = number(summary.get("parameters")), number(summary.get("trained_parameters"))
    logged = [line["train_tokens"] for line in told.metrics if number(line.get("train_tokens")) is not None]
    seen = tokens if tokens is not None else (logged[-1] if logged else None)
    cards = {
        "updates": _of(told),
        "tokens seen": NONE if seen is None else f"{seen:,.0f}",
        "tokens per second": _speed(told),
        "peak memory": _peak(told),
        "weights that train": NONE if not parameters or trained is None else f"{100 * trained / parameters:.3g}%",
    }
    for name, value in cards.items():
        yield html_element("div", html_element("b", value), name, kind="card")


def _of(told: Told) -> str:
    last, total = told.last_step, told.total_steps
    return f"{NONE if last is None else f'{last:,}'} of {NONE if total is None else f'{total:,}'}"


def _speed(told: Told) -> str:
    speed = told.past.tokens_per_second if told.summary else None
    return NONE if speed is None else f"{speed:,.0f}"


def _peak(told: Told) -> str:
    peak = told.past.peak_memory_bytes if told.summary else None
    return NONE if peak is None else f"{peak / 2**30:.2f} GiB"


def _problems(told: Told) -> Iterator[str]:
    if told.problems:
        yield html_element("ul", *(html_element("li", problem) for problem in told.problems), kind="problems")


# -- gained and forgotten ------------------------------------------------------------------------------------------


def _gained(told: Told) -> Iterator[str]:
    tables = _measured(told)
    if not any(tables.values()):
        yield html_element(
            "p",
            "Nothing was measured: the recipe has no evaluation rows, or the run did not get that far. "
            "data.eval_share, [[data.eval]] and [[data.retention]] say what to measure on.",
            kind="soft",
        )
        return
    for where, metrics in tables.items():
        lines = [(name, *_cells(one)) for name, one in metrics.items()]
        yield html_table(
            [where, "before", "after" if told.state == "finished" else "latest", ""], lines, [1, 2], kind="narrow gains"
        )
    if not told.past.retained:
        yield html_element("p", "Forgetting was not measured: the recipe has no [[data.retention]].", kind="soft")


def _measured(told: Told) -> dict[str, Mapping[str, Measured]]:
    """By the rows that it was measured on; of a run that is not over, what `metrics.jsonl` has so far."""
    ended = told.summary and told.state == "finished"
    if ended and (told.past.gained or told.past.retained):
        return {
            "evaluation rows": told.past.gained,
            **{f"what it knew: {name}": metrics for name, metrics in told.past.retained.items()},
        }
    found: dict[str, dict[str, Measured]] = {}
    better_is = table_at(told.past.summary, "better_is")
    for metric, chart in charts_of(told).items():
        for one in chart:
            if one.kind != TRAINING:
                where = f"what it knew: {one.name}" if one.kind == RETENTION else one.name
                later = one.values[-1] if len(one.values) > 1 else None
                found.setdefault(where, {})[metric] = Measured(one.values[0], later, better_is.get(metric))
    return dict(found)


def _cells(one: Measured) -> tuple[str, str, str]:
    said = change(one)
    kind = "good" if said.startswith("better") else "bad" if said.startswith("worse") else "soft"
    return _figure(one.before), _figure(one.after), html_element("span", said, kind=kind)


def _figure(value: float | None) -> str:
    return NONE if value is None else f"{value:,.4f}" if math.isfinite(value) else str(value)


def _gained_side_by_side(runs: Sequence[Told]) -> Iterator[str]:
    measured = [_measured(told) for told in runs]
    keys = dict.fromkeys((where, name) for tables in measured for where, metrics in tables.items() for name in metrics)
    if not keys:
        yield html_element("p", "Nothing was measured in any of them.", kind="soft")
        return

    def cell(tables: Mapping[str, Mapping[str, Measured]], where: str, name: str) -> str:
        one = tables.get(where, {}).get(name)
        if one is None:
            return NONE
        before, after, said = _cells(one)
        return html_element("div", f"{before} → {after}", html_element("div", said, kind="small"))

    lines = [(where, name, *(cell(tables, where, name) for tables in measured)) for where, name in keys]
    yield _wide(html_table(["measured on", "metric", *(told.past.label for told in runs)], lines))


# -- answers, tables, recipe, events -------------------------------------------------------------------------------


def _answers(told: Told, heading: str = "h2") -> Iterator[str]:
    samples = [sample for _, sample in children(told.summary.get("samples")) if is_table(sample)]
    if not samples:
        return
    yield html_element(heading, "Answers, before and after")
    for sample in samples[:MOST_ROWS]:
        said = {name: str(sample.get(name, "")) for name in ("question", "expected", "before", "after")}
        parts = [html_element("div", said["question"], kind="text question")]
        for name in ("before", "after", "expected"):
            if said[name] or name != "expected":
                answer = html_element("div", said[name] or "(nothing)", kind="text")
                parts.append(html_element("div", html_element("div", name, kind="soft small"), answer, kind=name))
        yield html_element("div", *parts, kind="answers")


def _tables(told: Told) -> Iterator[str]:
    """What metrics have to say beside their numbers, such as a confusion matrix."""
    for title, table in table_at(told.summary, "tables").items():
        lines = [[_cell(cell) for _, cell in children(line)] for _, line in children(table)]
        if len(lines) > 1 and len({len(line) for line in lines}) == 1:
            shown = _wide(html_table(lines[0], lines[1 : MOST_ROWS + 1], range(1, len(lines[0])), kind="narrow"))
            more = (
                f"{len(lines) - 1 - MOST_ROWS:,} more rows are in summary.json." if len(lines) > MOST_ROWS + 1 else ""
            )
            yield html_element("details", html_element("summary", title), shown, html_element("p", more, kind="soft"))
    for name, remark in table_at(told.summary, "metric_remarks").items():
        yield html_element("p", f"{name}: {remark}", kind="soft")


def _forecasts(told: Told) -> Iterator[str]:
    """What was predicted before the first update, such as the time, beside what it was."""
    lines: list[Sequence[str]] = []
    for name in (forecasts := table_at(told.summary, "forecasts")):
        predicted, actual = (table_at(table_at(forecasts, name), part) for part in ("predicted", "actual"))
        for key in predicted.keys() | actual.keys():
            both = [number(part.get(key)) for part in (predicted, actual)]
            if any(value is not None for value in both):
                lines.append((f"{name}: {key}", *(NONE if value is None else short(value) for value in both)))
    if lines:
        yield html_element("h2", "Predicted and actual")
        yield html_table(
            ["", "predicted", "actual"], sorted(lines, key=lambda line: line[0]), [1, 2], kind="narrow gains"
        )


def _cell(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _value(value: Any) -> str:
    return NONE if value is None else value if isinstance(value, str) else format_value(value)


def _recipe(told: Told) -> Iterator[str]:
    if told.recipe:
        given = html_element("div", told.recipe, kind="text")
        yield html_element("details", html_element("summary", "As given: recipe.toml"), given)
    if told.past.recipe:
        lines = [(html_element("code", key), html_element("code", _value(it))) for key, it in told.past.recipe.items()]
        table = html_table(["option", "value"], lines, kind="figures")
        yield html_element("details", html_element("summary", "Every option, defaults too"), table)
    if told.past.surroundings:
        lines = [(name, html_element("code", value)) for name, value in told.past.surroundings.items()]
        table = html_table(["", ""], lines, kind="figures")
        yield html_element("details", html_element("summary", "Rows, model, libraries and machine"), table)
    if not told.recipe and not told.past.recipe:
        yield html_element("p", "The recipe cannot be read.", kind="soft")


def _events(told: Told) -> Iterator[str]:
    """The last ones; what they have to say for people, else their fields."""
    if not told.events:
        yield html_element("p", "events.jsonl has no line that can be read.", kind="soft")
        return
    shown = told.events[-MOST_ROWS:]
    lines = [(str(line.get("time", ""))[:19].replace("T", " "), str(line["event"]), _said(line)) for line in shown]
    summary = f"{len(told.events):,} events" + (f", the last {MOST_ROWS}" if len(shown) < len(told.events) else "")
    table = html_table(["UTC", "event", ""], lines, kind="figures")
    yield html_element("details", html_element("summary", summary), table)


def _said(line: Mapping[str, Any]) -> str:
    if line.get("text"):
        return str(line["text"])
    fields = ((key, value) for key, value in line.items() if key not in ("time", "event", "text"))
    return ", ".join(f"{key} {value}" for key, value in fields if isinstance(value, str | int | float))
