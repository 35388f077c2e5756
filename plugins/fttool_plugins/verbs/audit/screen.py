"""An audit on one screen of a terminal; the page has more of each kind."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from fttool.verbs import aligned
from fttool_plugins.verbs.audit.report import Indicator, Report, Step, Tokens
from fttool_plugins.verbs.audit.steps import as_words

NAME = 20
"""Characters of the first column."""


def screen(report: Report, width: int) -> list[str]:
    """Everything in lines of at most `width` characters, but for places and names that are longer."""
    width = max(60, width)
    return [
        f"{report.source}: {report.how}",
        "",
        *folded(_counts(report), width),
        "",
        *_suspects(report, width),
        "",
        "indicators (0 to 1, more is better; difficulty is a loss)",
        *folded([(f"  {one.name}", _value(one)) for one in report.indicators], width),
        "",
        *_findings(report, width),
        f"what to do next, {report.order}",
        *_steps(report.steps, width),
    ]


def folded(rows: Sequence[tuple[str, str]], width: int) -> list[str]:
    """A name and what is said of it, which goes on below itself where it is long."""
    lines: list[str] = []
    for name, text in rows:
        room = max(30, width - NAME)
        parts = textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False) or [""]
        lines.append(f"{name:<{NAME}}{parts[0]}".rstrip())
        lines += [" " * NAME + part for part in parts[1:]]
    return lines


def _counts(report: Report) -> list[tuple[str, str]]:
    parts = {part: sum(one.rows for one in report.datasets if one.part == part) for part in ("train", "eval")}
    rows = f"{parts['train']:,} training, {parts['eval']:,} evaluation"
    bad = sum(one.bad for one in report.datasets)
    left_out = sum(sum(one.left_out.values()) for one in report.datasets)
    rows += f"; {bad:,} cannot be read" if bad else ""
    rows += f"; {left_out:,} marked as not learned" if left_out else ""
    counts = [("  rows", rows), ("  tokens", token_words(report.tokens, report.model))]
    if report.tokens.quantiles:
        counts.append(("  lengths", length_words(report.tokens)))
    if report.turns is not None:
        roles = as_words(report.turns.roles, 5)
        counts.append(("  turns", f"{report.turns.mean:.1f} a row, {report.turns.most} at most: {roles}"))
    if report.classes:
        counts.append(("  classes", as_words(report.classes, 6)))
    if report.repeated.rows:
        first = report.repeated.examples[0]
        counts.append(
            ("  the same twice", f"{report.repeated.rows:,} rows; {first.row} is {first.reason}: {first.excerpt}")
        )
    for one in report.datasets:
        counts += [("  bad row", f"{row.row}: {row.reason}") for row in one.bad_rows[:2]]
    return counts


def token_words(tokens: Tokens, model: str) -> str:
    """How many there are, and by which tokenizer."""
    sample = "" if tokens.rows == tokens.of else f" in {tokens.rows:,} rows, a sample"
    kinds = f"{tokens.total - tokens.learned:,} read only, {tokens.learned:,} learned ({tokens.learned_share:.0%})"
    return f"{tokens.total:,}{sample}: {kinds if tokens.learned else 'classes are learned'}; tokenizer: {model}"


def length_words(tokens: Tokens) -> str:
    """Quantiles, and what `max_length` does to them."""
    places = ", ".join(f"{name} {value:,}" for name, value in tokens.quantiles.items())
    fates = [f"{count:,} {reason}" for reason, count in tokens.dropped.items()]
    cut = f"max_length {tokens.max_length:,} cuts none"
    if tokens.long_rows:
        does = {"truncate": "cuts", "drop": "drops", "split": "splits"}[tokens.too_long]
        cut = f"max_length {tokens.max_length:,} {does} {tokens.long_rows:,} rows"
        cut += f" by {tokens.cut_tokens:,} tokens" if tokens.cut_tokens else ""
    return f"{places}; {cut}" + (f"; dropped: {', '.join(fates)}" if fates else "")


def _suspects(report: Report, width: int) -> Iterator[str]:
    found = [one for one in report.suspects if one.rows]
    rows = [["suspects by filter", "rows", "share"]]
    rows += [[f"  {one.filter}", f"{one.rows:,}", f"{one.share:.1%}"] for one in found]
    rows.append(["  none of them", f"{report.clean:,}", f"{report.clean / max(1, report.train_rows):.1%}"])
    shown = aligned(rows)
    yield shown[0]
    for line, one in zip(shown[1:-1], found, strict=True):
        first = one.worst[0]
        like = f" (like {first.like})" if first.like else ""
        yield fitted(f"{line}  {as_words(one.reasons, 2)}", width)
        yield fitted(f"      {first.row}{like}: {first.excerpt}", width)
    yield shown[-1]
    yield from folded([("  suspect nothing", ", ".join(quiet_filters(report)))], width) if quiet_filters(report) else ()
    for name, why in report.not_run.items():
        yield fitted(f"  {name} was not asked: {why}", width)


def quiet_filters(report: Report) -> list[str]:
    """Filters that were asked and suspect no row."""
    return [one.filter for one in report.suspects if not one.rows]


def fitted(line: str, width: int) -> str:
    """The line, cut with a mark where it is too long."""
    return line if len(line) <= width else line[: width - 2].rstrip() + " …"


def _value(one: Indicator) -> str:
    return f"{'–' if one.value is None else f'{one.value:.2f}':>5}  {one.says}"


def _findings(report: Report, width: int) -> list[str]:
    if not report.findings:
        return []
    lines = ["findings"]
    for one in report.findings:
        text = f"{one.message} [{one.source}]"
        lines += textwrap.wrap(text, width, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)
    return [*lines, ""]


def _steps(steps: Sequence[Step], width: int) -> list[str]:
    if not steps:
        return ["  nothing is suspected"]
    lines: list[str] = []
    for number, step in enumerate(steps, start=1):
        gain = f" — {step.verdict}" if step.verdict else ""
        text = f"{number}. {step.filter}, {step.rows:,} row{'' if step.rows == 1 else 's'}{gain}: {step.do}"
        lines += textwrap.wrap(text, width, initial_indent="  ", subsequent_indent="     ", break_on_hyphens=False)
    return lines
