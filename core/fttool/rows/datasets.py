"""A dataset of the recipe, from its raw rows to examples: what is read of each row, what is left out, and why."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fttool.contracts.recipe import Recipe, RowsTable
from fttool.contracts.rows import Example, FormatContext
from fttool.errors import DataError
from fttool.recipe.loaded import Loaded
from fttool.rows import hub
from fttool.rows.checks.bad import BadRows, alike
from fttool.rows.checks.calls import CallForm
from fttool.rows.checks.classes import ClassNames
from fttool.rows.checks.columns import Columns
from fttool.rows.checks.marks import MARKS, marked_learned
from fttool.rows.checks.noted import Noted, noted_row
from fttool.rows.files.remote import address_of
from fttool.rows.files.source import fingerprint_of, named_paths, unchanged
from fttool.rows.format_detection import remedy
from fttool.rows.gone import Gone, excerpt
from fttool.rows.raw import raw_rows
from fttool.rows.spooled import Spool, keep_example
from fttool.yielded import built

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Key = tuple[str | int, ...]

MARKED, ALL_MARKED = "marked as not learned", "nothing to learn beside turns marked as not learned"
"""Reasons to leave a row out: its own mark, and those of all the turns that it could teach."""
MARKS_HINT = 'marks of rows and turns (weight, train, loss …) leave nothing to learn: change them, or ignore = ["…"]'
_TRIED = 20
"""Rows on which other formats are tried, where the one that was chosen leaves something of them unread."""


@dataclass
class Reading:
    """What was read of one dataset."""

    table: RowsTable
    key: Key
    """Its place in the recipe."""
    examples: Spool[Example] = field(default_factory=Spool[Example])
    columns: Columns = field(default_factory=Columns)
    left_out: Counter[str] = field(default_factory=Counter[str])
    """Rows that are good and not taken, by reason."""
    gone: Spool[Gone] = field(default_factory=Spool[Gone])
    """These rows."""
    noted: Counter[str] = field(default_factory=Counter[str])
    """What the format says that it did, by how often."""
    source: dict[str, Any] = field(default_factory=dict[str, Any])
    """Where it came from, with a hash."""
    classes: ClassNames = field(default_factory=ClassNames)
    """Names of the rows' classes, where they have some."""
    complete: bool = True
    """False where there may be more rows than were read."""
    form: CallForm | None = None
    """How the run's chat template wants the arguments of calls."""
    said: str = ""
    """Why its format was chosen, where the recipe leaves that to the rows."""

    def __post_init__(self) -> None:
        self.bad = BadRows(self.table)
        self.columns.ignore = self.table.ignore

    def take(self, example: Example) -> None:
        """Add a row, with its calls in the form that the run's chat template wants, where that is known."""
        keep_example(self.table.format, example if self.form is None else self.form.shaped(example), self.examples)

    def note(self, what: str) -> None:
        """Count what a reader or format says."""
        self.noted[what] += 1

    def leave_out(self, example: Example, reason: str) -> None:
        """Note a good row that is not taken."""
        self.left_out[reason] += 1
        self.gone.append(Gone.of(self.table.dataset, example, reason, "marked"))

    def bad_row(self, origin: str, row: Mapping[str, Any], wrong: ValueError) -> Gone:
        """A row that the format cannot take, as it is listed."""
        shown = excerpt(json.dumps(row, ensure_ascii=False, default=str))
        return Gone(self.table.dataset, origin, str(wrong), "bad", shown)

    def as_source(self) -> dict[str, Any]:
        """What `lock.json` notes of it."""
        counted = {"noted": dict(self.noted)} if self.noted else {}
        bad = {"bad_rows": len(self.bad.found)} if self.bad.found else {}
        table = ".".join(map(str, self.key))
        return {"table": table, "rows": len(self.examples), **self.source, **self.columns.as_data(), **counted, **bad}

    def notices(self, *, unread: bool = True) -> list[str]:
        """What a user should know of it, in sentences; with `unread`, of columns that nobody reads too."""
        name, sentences = self.table.dataset, [self.said] if self.said else []
        if self.complete:
            sentences += [f"{name}: ignore names '{key}', which no row has" for key in self.columns.unmet()]
        listed = [f"{key} ({use.not_read:,})" for key, use in self.columns.columns.items() if use.not_read]
        sentences += [f"{name}: columns that are not read: {', '.join(listed)}"] if listed and unread else []
        sentences += [f"{name}: {what}: {count:,}" for what, count in self.noted.items()]
        return sentences + ([self.bad.notice()] if self.bad.found else [])


def read_dataset(
    loaded: Loaded, table: RowsTable, key: Key, tokenizer: PreTrainedTokenizerBase | None = None
) -> Reading:
    """All rows of a dataset, or as many as its `limit`, for a run with this tokenizer, where it is known.

    Raises:
        DataError: for a file that cannot be read, bad rows that are refused or too many, and a column that means
            something and is not read.
    """
    reading = Reading(table, key, form=CallForm(tokenizer) if tokenizer is not None else None)
    chat = None if tokenizer is None else bool(getattr(tokenizer, "chat_template", None))
    if not table.paths:
        dataset = hub.load(table, key)
        reading.source = {"source": f"hub:{table.hub}", **hub.published(table, dataset)}
        read_into(loaded, reading, f"hub:{table.hub}", hub.rows(table, dataset), chat)
        return reading
    paths = named_paths(loaded.folder, table.paths)
    with unchanged(paths):  # so that the hash is that of the rows which were read
        read_into(loaded, reading, ", ".join(table.paths), raw_rows(loaded, table, note=reading.note), chat)
        reading.source = {"source": ", ".join(map(address_of, paths)), **fingerprint_of(paths)}
    return reading


def unread_general(recipe: Recipe) -> list[str]:
    """What to say of general rows that nothing in the recipe reads."""
    if not recipe.data.general or any(each.uses_general for each in (recipe.mixing, *recipe.regularizers)):
        return []
    names = ", ".join(table.dataset for table in recipe.data.general)
    return [
        f"general rows ({names}): nothing reads them, since mixing '{recipe.mixing.id()}' does not replay them and no "
        "regularizer asks for them; `fttool plugins general` lists what does"
    ]


def read_into(
    loaded: Loaded,
    into: Reading,
    source: str,
    raw: Iterable[tuple[str, Mapping[str, Any]]],
    chat: bool | None = None,
) -> None:
    """Raw rows through the format; every bad row is named by file and line, alike ones together. `chat` says whether
    there is a chat template, where that is known.
    """
    table, bad = into.table, into.bad
    level = loaded.recipe.task.learns
    context = FormatContext(origin=source, level=level, chat=chat, note=into.note, **loaded.common)
    read_row = built(table.format, context)
    unread: list[Mapping[str, Any]] = []
    try:
        for origin, row in raw:
            if len(into.examples) + into.left_out.total() == table.limit:
                break
            bad.rows += 1
            noted, turns, ignored = noted_row(row, table.ignore)
            try:
                example = read_row(noted, origin)
                learned = _row_learned(noted)
            except ValueError as wrong:
                bad.add(into.bad_row(origin, row, wrong), wrong)
                if bad.enough:
                    break
                continue
            taken = learned and not _all_marked(example)
            if into.columns.count(noted, turns, ignored, example, taken=taken) and len(unread) < _TRIED:
                unread.append(row)
            if level == "row":
                into.classes.add(noted, example)
            if taken:
                into.take(example)
            else:
                into.leave_out(example, ALL_MARKED if learned else MARKED)
    except DataError as broken:
        raise DataError([*alike(bad.found), *broken.problems] if bad.found else broken.problems) from None
    bad.settle()
    if unread:
        raise DataError(into.columns.problems(table.format.id(), remedy(loaded, table, unread)))


def _row_learned(row: Noted) -> bool:
    """Whether the row's own marks, but for columns that the format has read, let it be learned."""
    marks = {key: row[key] for key in MARKS if key in row and key not in row.noted}
    try:
        return marked_learned(marks, "the row", in_text=True)
    except ValueError as wrong:
        listed = ", ".join(f'"{key}"' for key in marks)
        raise ValueError(f"{wrong}; where it means something else, set ignore = [{listed}]") from None


def _all_marked(example: Example) -> bool:
    """Whether every turn that the row could teach is marked as not learned."""
    answers = {index for index, message in enumerate(example.messages) if message.get("role") == "assistant"}
    return bool(answers) and answers <= example.unlearned
