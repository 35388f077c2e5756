"""`auto`: the format that reads the rows, chosen by a look at the first of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

from typing_extensions import override

from fttool.api import Example, Format, FormatContext, FormatLook, FormatTrial, Levels, RowReader, visible
from fttool_plugins.format.alpaca import Alpaca
from fttool_plugins.format.bedrock import Bedrock
from fttool_plugins.format.gemini import Gemini
from fttool_plugins.format.labelled import Labelled
from fttool_plugins.format.messages import Messages
from fttool_plugins.format.preference import Preference
from fttool_plugins.format.prompt_completion import PromptCompletion
from fttool_plugins.format.sharegpt import ShareGPT
from fttool_plugins.format.tagged import Tagged
from fttool_plugins.format.text import Text

ROOM = (Messages, ShareGPT, Alpaca, PromptCompletion, Preference, Bedrock, Gemini, Text, Labelled, Tagged)
"""The formats of this room."""
NAMED = 12
"""Columns that are named."""


class Auto(Format):
    """The format that reads the rows of a file, found by trying each on the first 1,000.

    It must do so without any option and leave nothing unread that means something; of several the one is taken that
    leaves the fewest columns unread, and among equals a built-in one. Formats of installed plugins take part where they
    recognise the rows as theirs; `[plugins] disable` leaves a plugin out. The choice and its reason are said, with the
    rows' columns and the other formats that read them too; it stands in `recipe.resolved.toml`, so that a run can be
    repeated whatever else is installed by then. Rows of several shapes are refused with the number of each.

    Use it to get to know a file. In a recipe that stays, name the format.
    """

    name: Literal["auto"] = "auto"
    level: ClassVar[Levels] = None
    chooses: ClassVar[bool] = True
    example: ClassVar[Mapping[str, Any]] = Messages.example

    @override
    def settle(self, look: Callable[[], FormatLook]) -> tuple[Format, str]:
        return choice(look())

    @override
    def build(self, ctx: FormatContext) -> RowReader:
        """A reader of rows that nobody has looked at before: the first row says which format reads all of them."""
        chosen: list[RowReader] = []

        def read(row: Mapping[str, Any], origin: str) -> Example:
            if not chosen:
                chosen.append(_reader(row, origin, ctx))
            return chosen[0](row, origin)

        return read


def _reader(row: Mapping[str, Any], origin: str, ctx: FormatContext) -> RowReader:
    for kind in ROOM:
        read = kind().build(ctx)
        try:
            read(row, origin)
        except ValueError:
            continue
        return read
    raise ValueError(f"no format reads the row (its columns: {', '.join(map(repr, list(row)[:8]))})")


def choice(look: FormatLook) -> tuple[Format, str]:
    """The format for these rows, and why, in words that follow its name.

    Raises:
        ValueError: where there are no rows, none that any format reads, or rows of several shapes.
    """
    count = len(look.origins)
    if not count or not look.trials:
        raise ValueError("there is no row to choose a format by")
    best = min(look.trials, key=lambda trial: (len(trial.refused), sum(trial.unread.values())))
    if len(best.refused) == count:
        nearest = max(look.trials, key=lambda trial: len(trial.lossy))
        rows = "the only row" if count == 1 else f"any of the first {count:,} rows"
        raise ValueError(f"no format reads {rows}; '{nearest.format.id()}' says: {nearest.refused[0]}")
    _refuse_mixed(best, look)
    rows = "the only row" if count == 1 else f"all of the first {count:,} rows"
    why = f"it reads {rows} ({_columns(look)})"
    if best.refused:
        index = min(best.refused)
        why = f"it reads {count - len(best.refused):,} of the first {count:,} rows ({_columns(look)}), and no format "
        why += f"reads the others ({look.origins[index]}: {best.refused[index]})"
    unasked = "".join(f"; plugin '{name}' is not asked: {reason}" for name, reason in look.broken.items())
    return best.format, why + _others(best, look) + unasked


def _columns(look: FormatLook) -> str:
    """The columns of the rows that were looked at, those first that most rows have."""
    count = len(look.origins)
    ordered = sorted(look.columns.items(), key=lambda column: -column[1])
    named = [name if rows == count else f"{name} in {rows:,}" for name, rows in ordered[:NAMED]]
    more = [f"{len(ordered) - NAMED} more"] if len(ordered) > NAMED else []
    return "columns: " + ", ".join(visible(name) for name in [*named, *more])


def _others(best: FormatTrial, look: FormatLook) -> str:
    """Which other formats read as many of the rows."""
    others = [trial for trial in look.trials if trial is not best and len(trial.refused) == len(best.refused)]
    if not others:
        return ", and no other format does"
    names = ", ".join(f'"{trial.format.id()}"' for trial in others)
    least = all(sum(trial.unread.values()) > sum(best.unread.values()) for trial in others)
    fewer = "; it leaves the fewest columns unread" if least else ""
    return f", as {names} would too{fewer}"


def _refuse_mixed(best: FormatTrial, look: FormatLook) -> None:
    """Raise `ValueError` where other formats read what the best one does not."""
    shapes = Counter[str]()
    first: dict[str, str] = {}
    for index, origin in enumerate(look.origins):
        readers = [trial.format.id() for trial in (best, *look.trials) if index not in trial.refused]
        shape = readers[0] if readers else ""
        shapes[shape] += 1
        first.setdefault(shape, origin)
    unread = shapes.pop("", 0)
    if len(shapes) < 2:
        return
    counts = [f'{count:,} for "{shape}" (first {first[shape]})' for shape, count in shapes.most_common()]
    counts += [f"{unread:,} for none (first {first['']})"] if unread else []
    raise ValueError(f"the rows are of several shapes: {', '.join(counts)}; a dataset for each shape, with its format")
