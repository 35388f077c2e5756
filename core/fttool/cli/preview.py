"""Show rows token by token: what the model reads, and in colour what it learns."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fttool.cli.recipe_arguments import add_recipe, load_recipe
from fttool.errors import DataError, ExitCode, UsageError, counted
from fttool.visible import show, visible

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from fttool.cli.preview_packs import Pack
    from fttool.contracts.rows import Encoded
    from fttool.recipe.loaded import Loaded
    from fttool.rows.rows import Rows
    from fttool.rows.tokens import JoinedRows, TokenRows

EXAMPLES = """\
examples:
  fttool preview my.toml                 the first three rows
  fttool preview my.toml --rows 10
  fttool preview my.toml --table retention       of each dataset of [[data.retention]]
  fttool preview my.toml --row 3        the third row alone, of those that are kept
  fttool preview my.toml --row chats.jsonl:2    the row of that line; where it is dropped, the reason
  fttool preview my.toml --sequences    the first sequences of a run's first epoch: which rows share one, in which order
  fttool preview my.toml --html rows.html        a page for a browser
  fttool preview my.toml --json          input_ids, labels and text, one JSON object per line

Learned tokens are green and underlined; without colour they are in [brackets]. What is to be known of the datasets
(columns that are not read, rows that were left out …) and of the rows shown follows as notes on stderr. A row that is
cut at batching.max_length says how many tokens it has lost. Where batching packs rows, those shown are listed by
sequence, with a border before each row and its position ids, which start again where a row sees itself alone; a run
packs all of its rows, as --sequences does. `fttool rows my.toml` lists the rows that are dropped.

next: fttool run my.toml --dry-run
"""

TABLES = ("train", "general", "retention")
MARGIN = 1_000
"""Rows of each dataset that are read beyond those that are shown, since some may be left out."""
ALONE = "leave --row and --table out"
PACKED = "these rows are packed as if there were no others: --sequences shows what a run makes of all"
LEARNED, PLAIN = "\x1b[32;4m", "\x1b[0m"


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of this verb."""
    add_recipe(parser)
    parser.add_argument("--rows", type=int, default=3, metavar="N", help="how many rows (default 3)")
    parser.add_argument("--table", choices=TABLES, default=TABLES[0], help="which rows of [data] (default train)")
    parser.add_argument("--row", metavar="N|FILE:LINE", help="one row alone: the N-th that is kept, or that of a line")
    parser.add_argument("--sequences", action="store_true", help="the first --rows sequences that a run begins with")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the rows as a page for a browser, too")
    parser.add_argument("--json", action="store_true", help="input_ids, labels, text per row")


@dataclass(frozen=True, slots=True)
class _Row:
    """A row that is shown."""

    origin: str
    row: Encoded
    head: str
    """What is said above it."""
    sequence: int = 0
    """The number of the sequence that it shares with others, from 1; 0 where rows stand alone."""
    above: str = ""
    """What is said above that sequence, at its first row."""
    positions: Sequence[int] = ()
    """Its position ids there."""


def main(options: argparse.Namespace) -> int:
    """Print the rows; the model's weights are not loaded."""
    if options.rows < 1:
        raise UsageError("--rows must be at least 1")
    loaded = load_recipe(options)

    from fttool.machine import quiet_libraries
    from fttool.recipe.faults import explained
    from fttool.rows.checks.agreement import refuse_difference
    from fttool.rows.format_detection import settled
    from fttool.runs.stages.rows import agree

    with explained(loaded):
        loaded = settled(loaded)
        quiet_libraries(network=loaded.needs_network)
        tokenizer, rows = _read(options, loaded)
        agreement = agree(loaded, tokenizer, rows)
        every, chosen = _every(options, loaded, rows)
    shown = _chosen(options, every)
    if not shown:
        raise _absent(options.row, rows)
    _print(shown, tokenizer, as_json=options.json)
    if options.html is not None:
        _write(options.html, _page(str(options.recipe), shown, tokenizer))
    packed = [PACKED] if any(row.sequence for row in shown) and not options.sequences else []
    for note in [*rows.notices, *_remarks(chosen), *packed]:
        show(f"note: {note}", error=True)
    with explained(loaded):  # the rows come first: they show what is refused
        refuse_difference(agreement, loaded.recipe.model.template_difference)
    for finding in agreement.findings():
        show(f"note: {finding.message}", f"    {finding.hint}", error=True)
    return ExitCode.OK


def _read(options: argparse.Namespace, loaded: Loaded) -> tuple[PreTrainedTokenizerBase, Rows]:
    """Tokenizer and rows; where no filter must see all rows, only the beginning of each dataset is read."""
    from fttool.runs.stages.rows import load_rows

    first = _first(options)
    if first is not None and not loaded.recipe.filters:
        most = first + MARGIN
        with suppress(DataError):  # of the beginning alone: all rows may say something else
            _, tokenizer, rows = load_rows(_beginning(loaded, most), first=first)
            parts = [rows.train, *rows.general.values(), *rows.retention.values()]
            if all(len(part) >= first for part in parts):
                cut = any(source["rows"] == most for source in rows.sources)
                rows.notices += [f"only the first {most:,} rows of each dataset were read"] if cut else []
                return tokenizer, rows
    _, tokenizer, rows = load_rows(loaded, first=first)
    return tokenizer, rows


def _beginning(loaded: Loaded, most: int) -> Loaded:
    """The recipe with so many rows of each dataset at most that is learned from or measured for forgetting."""
    data = loaded.recipe.data
    for part in TABLES:
        tables = [table.model_copy(update={"limit": min(table.limit or most, most)}) for table in getattr(data, part)]
        data = data.model_copy(update={part: tuple(tables)})
    return replace(loaded, recipe=loaded.recipe.model_copy(update={"data": data}))


def _every(options: argparse.Namespace, loaded: Loaded, rows: Rows) -> tuple[list[_Row], list[TokenRows]]:
    """The rows that may be shown, in the sequences that batching makes of them, and the datasets that they are of."""
    from fttool.cli.preview_packs import first_sequences, packs_among
    from fttool.rows.tokens import JoinedRows

    if options.sequences:
        packs = first_sequences(loaded, rows, options.rows)
        return list(_in_packs(packs, rows.learned, loaded, rows)), []
    datasets = {"train": [rows.train], "general": rows.general.values(), "retention": rows.retention.values()}
    chosen = [dataset for dataset in datasets[options.table] if len(dataset)]
    if not chosen:
        raise UsageError(f"the recipe has no [[data.{options.table}]]", hint="add it, or leave --table out")
    every: list[_Row] = []
    for part in chosen:
        packs = packs_among(loaded, part) if options.row is None else []
        every += _in_packs(packs, JoinedRows([part]), loaded, rows)
        if not packs:
            every += [_Row(origin, row, _head(origin, row, cut, rows)) for origin, row, cut in _each(part, options)]
    return every, chosen


def _in_packs(packs: Sequence[Pack], dataset: JoinedRows, loaded: Loaded, rows: Rows) -> Iterator[_Row]:
    """The rows of sequences, one sequence after the other."""
    from fttool.cli.preview_packs import borders, described

    for number, pack in enumerate(packs, 1):
        members = [dataset[index] for index in pack.rows]
        length = sum(len(row.input_ids) for row in members)
        above = described(pack, number, length, loaded.recipe.batching.max_length)
        for at, (index, row, border) in enumerate(zip(pack.rows, members, borders(pack), strict=True)):
            which, place = dataset.place(index)
            part, origin = dataset.datasets[which], dataset.origin(index)
            head = ", ".join(filter(None, [_head(origin, row, part.cut[place], rows), border]))
            yield _Row(origin, row, head, number, "" if at else above, pack.positions[at] if pack.positions else ())


def _first(options: argparse.Namespace) -> int | None:
    """How many rows of a dataset are prepared; all where one is looked for by its line, and where all are ordered."""
    if options.sequences:
        if options.row is not None or options.table != TABLES[0]:
            raise UsageError("--sequences shows the rows that are learned from, in the order of a run", hint=ALONE)
        return None
    if options.row is None:
        return options.rows
    if not options.row.isdigit():
        return None
    if int(options.row) < 1:
        raise UsageError("--row counts from 1")
    return int(options.row)


def _each(part: TokenRows, options: argparse.Namespace) -> Iterator[tuple[str, Encoded, int]]:
    """The rows, but for those that are surely not asked for."""
    place = None if options.row is None or options.row.isdigit() else options.row
    for index, origin in enumerate(part.origins):
        if place is None or _is_at(origin.partition("#")[0], place):
            yield origin, part[index], part.cut[index]


def _chosen(options: argparse.Namespace, rows: list[_Row]) -> list[_Row]:
    """The row that is asked for, with all of its parts; else all."""
    if options.row is None:
        return rows
    if options.row.isdigit():
        return rows[int(options.row) - 1 : int(options.row)]
    return [row for row in rows if _is_at(row.origin.partition("#")[0], options.row)]


def _is_at(origin: str, place: str) -> bool:
    """Whether `folder/rows.jsonl:3` is what `rows.jsonl:3` means."""
    return origin == place or origin.endswith(f"/{place}")


def _absent(place: str, rows: Rows) -> UsageError:
    """Why there is no such row: it is dropped, or is not there."""
    gone = next((gone for gone in rows.gone if _is_at(gone.row, place)), None)
    if gone is not None:
        message = f"the row {gone.row} is dropped: {gone.reason} [{gone.by}]"
        return UsageError(message, hint="`fttool rows` lists all that are")
    if any(_is_at(origin.partition("#")[0], place) for origin in rows.eval.origins):
        return UsageError(
            f"the row {place} is measured on, and not learned", hint="preview shows rows that are learned"
        )
    hint = "give its number, from 1, or FILE:LINE"
    return UsageError(f"there is no row {place} among those that are kept", hint=hint)


def _head(origin: str, row: Encoded, lost: int, rows: Rows) -> str:
    """What is said of a row: its length, what is learned, and what it has lost."""
    learned = f"{sum(label != -100 for label in row.labels)} learned"
    if row.classes is not None:
        learned = ", ".join(row.classes) or "no class"
    cut = f", cut: {counted(lost, 'token')} lost" if lost else ""
    part = ", a part of a longer row" if rows.windowed and "#" in origin else ""
    return f"{origin}: {len(row.input_ids)} tokens, {learned}{cut}{part}"


def _print(rows: Sequence[_Row], tokenizer: Any, *, as_json: bool) -> None:
    coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    for one in rows:
        row = one.row
        if as_json:
            text = tokenizer.decode(row.input_ids)
            data: dict[str, Any] = {"row": one.origin, "input_ids": row.input_ids, "labels": row.labels, "text": text}
            data |= {} if row.classes is None else {"classes": row.classes}
            print(json.dumps(data | ({"sequence": one.sequence, **_positions(one)} if one.sequence else {})))
        else:
            show(*filter(None, [one.above]), f"── {one.head}" if one.sequence else one.head)
            print("".join(_shown(tokenizer, row.input_ids, row.labels, coloured)).rstrip("\n") + "\n")


def _positions(row: _Row) -> dict[str, Any]:
    return {"position_ids": row.positions} if row.positions else {}


def _page(recipe: str, rows: Sequence[_Row], tokenizer: Any) -> str:
    """The rows as a page for a browser, with what is learned underlined."""
    from fttool.show.page import html_element, html_page, html_text

    style = "color: var(--mark); text-decoration: underline"
    parts = [html_element("h1", f"Rows of {recipe}"), html_element("p", "What is learned is underlined.", kind="soft")]
    for one in rows:
        pieces = [
            html_element("span", text, style=style) if learned else html_text(text)
            for text, learned in _stretches(tokenizer, one.row.input_ids, one.row.labels)
        ]
        parts += [html_element("h2", one.above)] if one.above else []
        border = {"style": "border-top: 2px solid var(--mark)"} if one.sequence else {}
        parts += [html_element("h3" if one.sequence else "h2", one.head, **border)]
        parts += [html_element("div", *pieces, kind="text")]
    return html_page(f"Rows of {recipe}", *parts)


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as fault:
        raise UsageError(f"cannot write '{file}': {fault.strerror}", hint="name another file: --html FILE") from fault
    show(f"wrote {file}", error=True)


def _remarks(chosen: Sequence[TokenRows]) -> list[str]:
    """What is to be known of the rows that were shown."""
    counts = sum((dataset.remarks for dataset in chosen), Counter[str]())
    return [f"shown here: {counted(count, 'row')} {remark}" for remark, count in counts.items()]


def _stretches(tokenizer: Any, input_ids: list[int], labels: list[int]) -> Iterator[tuple[str, bool]]:
    """The row's text in stretches that are learned or not; a stretch is decoded at once, so no letter is split."""
    start = 0
    for end in range(1, len(input_ids) + 1):
        learned = labels[start] != -100
        if end < len(input_ids) and (labels[end] != -100) == learned:
            continue
        yield str(tokenizer.decode(input_ids[start:end])), learned
        start = end


def _shown(tokenizer: Any, input_ids: list[int], labels: list[int], coloured: bool) -> Iterator[str]:
    """The same for a terminal."""
    for stretch, learned in _stretches(tokenizer, input_ids, labels):
        text = visible(stretch)
        if learned:
            text = f"{LEARNED}{text}{PLAIN}" if coloured else f"[{text}]"
        yield text
