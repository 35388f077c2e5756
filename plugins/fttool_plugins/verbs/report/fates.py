"""What became of the rows: how many were learned from, which were dropped or changed and why, and what was cut."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fttool.verbs import counted, html_element, html_table
from fttool_plugins.verbs.compare.past import number, table_at
from fttool_plugins.verbs.report.reading import Told

MOST_REASONS = 12
"""Reasons of which examples are shown."""


def rows(told: Told) -> Iterator[str]:
    """Sentences, a table of reasons, and examples."""
    summary, gone = told.summary, told.gone
    yield from _learned(summary)
    reasons = _reasons(told)
    if reasons:
        yield html_element("div", html_table(["", "reason", "rows", "tokens"], reasons, [2, 3]), kind="wide")
    elif summary or told.state in ("running", "killed"):
        yield html_element("p", "No row was dropped, changed or flagged.", kind="soft")
    yield from _cut(summary)
    for remark, count in table_at(summary, "row_remarks").items():
        yield html_element("p", f"{_rows(count)} {remark}")
    for (by, reason), count in gone.counts.most_common(MOST_REASONS):
        examples = gone.examples[by, reason]
        first = "" if count == len(examples) else f", the first {len(examples)}"
        title = html_element("summary", f"{by or 'dropped'}: {reason} ({count:,}{first})")
        lines = [(html_element("code", _text(row, "row")), _beginning(row)) for row in examples]
        yield html_element("details", title, html_table(["row", "how it begins"], lines, kind="figures"))
    if len(gone.counts) > MOST_REASONS:
        yield html_element("p", f"{len(gone.counts) - MOST_REASONS:,} more reasons are in dropped.jsonl.", kind="soft")


def _learned(summary: Mapping[str, Any]) -> Iterator[str]:
    learned, measured = number(summary.get("train_rows")), number(summary.get("eval_rows"))
    if learned is not None:
        on = f", {_rows(measured)} measured on" if measured else ""
        labels = number(summary.get("label_tokens"))
        said = f"; {labels:,.0f} labels in all updates" if labels is not None else ""
        yield html_element("p", f"{_rows(learned)} learned from{on}{said}.")


def _reasons(told: Told) -> list[tuple[str, str, str, str]]:
    """A line for each reason: the summary's counts, or those of `dropped.jsonl` where there is no summary yet."""
    lines: list[tuple[str, str, str, str]] = []
    tokens = table_at(told.summary, "dropped_tokens")
    for fate in ("dropped", "changed", "flagged"):
        for reason, count in table_at(told.summary, f"{fate}_rows").items():
            lost = number(tokens.get(reason)) if fate == "dropped" else None
            lines.append((fate, reason, _count(count), f"{lost:,.0f}" if lost else ""))
    if not told.summary:
        lines = [("dropped", reason, f"{count:,}", "") for (_, reason), count in told.gone.counts.most_common()]
    return lines


def _cut(summary: Mapping[str, Any]) -> Iterator[str]:
    if cut := number(summary.get("truncated_rows")):
        lost = " and ".join(f"{_count(count)} {kind}" for kind, count in table_at(summary, "lost").items())
        yield html_element("p", f"Cut at max_length: {_rows(cut)}{f', {lost} lost' if lost else ''}.")
    if windowed := table_at(summary, "windowed_rows"):
        parts = _count(windowed.get("parts"))
        yield html_element("p", f"Longer than max_length: {_rows(windowed.get('rows'))} split into {parts}.")


def _beginning(row: Mapping[str, Any]) -> str:
    like = _text(row, "like")
    also = html_element("div", "like ", html_element("code", like), kind="soft small") if like else ""
    return html_element("div", html_element("div", _text(row, "excerpt"), kind="text"), also)


def _text(row: Mapping[str, Any], key: str) -> str:
    return str(row.get(key) or "")


def _count(value: Any) -> str:
    count = number(value)
    return "?" if count is None else f"{count:,.0f}"


def _rows(value: Any) -> str:
    count = number(value)
    return (
        f"{_count(value)} rows" if count is None or count != count or abs(count) > 1e15 else counted(int(count), "row")
    )
