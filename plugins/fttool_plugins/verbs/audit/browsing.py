"""An audit as a page for a browser: what the screen has, and the ten worst rows of each kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from fttool.verbs import html_bar, html_element, html_page, html_steps, html_table
from fttool_plugins.verbs.audit.report import Indicator, Report, Shown, Suspects
from fttool_plugins.verbs.audit.screen import length_words, quiet_filters, token_words
from fttool_plugins.verbs.audit.steps import as_words


def browsed(report: Report) -> str:
    """The whole file."""
    return html_page(f"Audit of {report.source}", *_body(report))


def _body(report: Report) -> Iterator[str]:
    yield html_element("h1", f"Audit of {report.source}")
    about = f"{report.how}; task {report.task}; tokenizer {report.model}; took {report.seconds:,.0f} s. "
    yield html_element("p", about, "The rows are shown as they are, personal data too.", kind="soft")
    yield html_element("div", *_cards(report), kind="cards")
    yield html_element("h2", "What to do next")
    yield html_element("p", f"In order {report.order}.", kind="soft")
    rows = [(step.filter, f"{step.rows:,}", step.verdict or "–", step.do) for step in report.steps]
    yield (
        html_table(["suspects", "rows", "gain", "what to do"], rows, [1])
        if rows
        else html_element("p", "Nothing is suspected.")
    )
    yield html_element("h2", "Suspects, by filter")
    yield from _suspects(report)
    yield html_element("h2", "Indicators")
    yield html_table(["", "", "", "what it is here"], map(_indicator, report.indicators), [1])
    for one in report.indicators:
        if one.rows:
            yield html_element(
                "details", html_element("summary", f"{one.name}: rows that pull it down"), shown(one.rows)
            )
    yield html_element("h2", "Tokens and lengths")
    yield html_element("p", token_words(report.tokens, report.model))
    if report.tokens.quantiles:
        yield html_element("p", length_words(report.tokens), kind="soft")
        longest = report.tokens.quantiles["longest"]
        yield html_steps(report.tokens.lengths, longest, report.tokens.max_length, "tokens a row")
    yield from _shapes(report)
    yield from _twice(report)
    yield html_element("h2", "Findings")
    findings = [(one.message, html_element("span", one.source, kind="soft small")) for one in report.findings]
    yield html_table(["what", "rule"], findings) if findings else html_element("p", "None.")
    yield html_element("h2", "Datasets")
    yield from _datasets(report)


def _cards(report: Report) -> Iterator[str]:
    suspected = report.train_rows - report.clean
    cards = {
        "training rows": f"{report.train_rows:,}",
        "tokens": f"{report.tokens.total:,}",
        "of them learned": f"{report.tokens.learned_share:.0%}" if report.tokens.learned else "–",
        "rows suspected": f"{suspected:,} ({suspected / max(1, report.train_rows):.0%})",
        "measured on too": f"{report.overlap.rows:,}",
    }
    for name, value in cards.items():
        yield html_element("div", html_element("b", value), name, kind="card")


def _suspects(report: Report) -> Iterator[str]:
    yield html_table(
        ["filter", "rows", "share", "", "reasons"],
        [
            (one.filter, f"{one.rows:,}", f"{one.share:.1%}", html_bar(one.share, bad=True), as_words(one.reasons, 4))
            for one in report.suspects
            if one.rows
        ],
        [1, 2],
    )
    if quiet := quiet_filters(report):
        yield html_element("p", f"Suspect nothing: {', '.join(quiet)}.", kind="soft")
    for one in report.suspects:
        if one.rows:
            yield html_element(
                "details", html_element("summary", _heading(one)), html_element("p", one.about), shown(one.worst)
            )
    if report.not_run:
        yield html_element(
            "p", "Not asked: ", *(f"{name} ({why}). " for name, why in report.not_run.items()), kind="soft"
        )


def _heading(one: Suspects) -> str:
    first = "" if one.rows <= len(one.worst) else f", the first {len(one.worst)}"
    return f"{one.filter}: {one.rows:,} row{'' if one.rows == 1 else 's'}{first}"


def shown(rows: Sequence[Shown]) -> str:
    """Rows with their place, why they are shown, and how they begin."""

    def cells(row: Shown) -> Sequence[str]:
        place, reason = [html_element("code", row.row)], [row.reason]
        if row.like:
            place.append(html_element("div", "like ", html_element("code", row.like), kind="soft small"))
        if row.also:
            reason.append(html_element("div", f"also {', '.join(row.also)}", kind="soft small"))
        parts = (html_element("div", *place), html_element("div", *reason))
        return (*parts, html_element("div", row.excerpt, kind="text"))

    return html_table(["row", "why", "how it begins"], map(cells, rows), kind="rows")


def _indicator(one: Indicator) -> Sequence[str]:
    is_share = one.value is not None and one.name != "difficulty"
    told = html_element("div", f"From {one.computed}. It cannot see {one.blind}.", kind="soft small")
    value = "–" if one.value is None else f"{one.value:.2f}"
    return one.name, value, html_bar(one.value or 0.0) if is_share else "", html_element("div", one.says, told)


def _shapes(report: Report) -> Iterator[str]:
    if report.turns is not None:
        turns = report.turns
        yield html_element("h2", "Turns")
        system = f"{turns.system:,} of {turns.rows:,} rows have a system turn"
        said = f"{turns.mean:.1f} a row, {turns.most:,} at most; {system}"
        yield html_element("p", said)
        yield _bars("role", turns.roles)
    if report.classes:
        yield html_element("h2", "Classes")
        yield _bars("class", report.classes)


def _bars(name: str, counts: Mapping[str, int]) -> str:
    total = max(1, sum(counts.values()))
    first = list(counts.items())[:20]
    rows = [(what, f"{count:,}", f"{count / total:.1%}", html_bar(count / total)) for what, count in first]
    if len(counts) > len(first):
        rest = total - sum(count for _, count in first)
        rows.append((f"{len(counts) - len(first):,} more", f"{rest:,}", f"{rest / total:.1%}", html_bar(rest / total)))
    return html_table([name, "", "", ""], rows, [1, 2], kind="narrow")


def _twice(report: Report) -> Iterator[str]:
    if report.repeated.rows:
        yield html_element("h2", "There more than once")
        yield html_element("p", f"{report.repeated.rows:,} rows say what an earlier one says, character for character.")
        yield shown(report.repeated.examples)
    if report.overlap.examples:
        yield html_element("h2", "Measured on too")
        yield shown(report.overlap.examples)


def _datasets(report: Report) -> Iterator[str]:
    yield html_table(
        ["part", "dataset", "format", "rows", "cannot be read", "marked as not learned"],
        [
            (one.part, one.name, one.format, f"{one.rows:,}", f"{one.bad:,}", f"{sum(one.left_out.values()):,}")
            for one in report.datasets
        ],
        [3, 4, 5],
    )
    bad = [row for one in report.datasets for row in one.bad_rows]
    if bad:
        yield html_element("details", html_element("summary", "Rows that cannot be read"), shown(bad))
    if report.tokens.unmasked_rows:
        yield html_element(
            "details", html_element("summary", "Rows without a mask"), shown(report.tokens.unmasked_rows)
        )
