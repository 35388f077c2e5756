"""The rows of a recipe before anything is decided about them, for verbs that look at data and train nothing.

Bad rows are counted and not refused, no filter has been applied, and every row can be had in tokens, uncut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fttool.contracts.rows import Example, Filter, MaskingContext, RowEncoder, Verdict
from fttool.contracts.strategy import Level
from fttool.errors import gist
from fttool.listing import installed
from fttool.machine import quiet_libraries
from fttool.plugins import Plugins
from fttool.recipe.faults import explained
from fttool.recipe.loaded import Loaded
from fttool.verbs.evaluating import first_rows
from fttool.watch.screen import Screen, choose

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LEVELS: tuple[Level, ...] = ("token", "row", "word", "number")
"""What rows of an unknown format may be for, in the order in which it is tried."""
ANY_NUMBER = 10**12
"""Bad rows that are counted before they are refused."""


@dataclass(frozen=True, kw_only=True)
class Surveyed:
    """A dataset of a recipe as it was read."""

    part: str
    """`train`, `eval`, `general` or `retention`."""
    name: str
    """What the dataset is called."""
    place: tuple[str | int, ...]
    """Its key in the recipe."""
    format: str
    """The id of the format that read it."""
    examples: Sequence[Example]
    """Its good rows."""
    left_out: Mapping[str, int]
    """Good rows that their own marks keep from being learned, by reason."""
    bad: Sequence[tuple[str, str]]
    """Rows that cannot be read: `file:line`, and what is wrong."""
    notices: Sequence[str]
    """What a user should know of it, in sentences: columns that are not read, classes that look like one …"""


def survey(loaded: Loaded, tokenizer: PreTrainedTokenizerBase | None = None) -> list[Surveyed]:
    """Read every dataset of the recipe, for a run with this tokenizer; `DataError` for a file that is itself broken."""
    from fttool.rows.datasets import read_dataset
    from fttool.rows.format_detection import settled

    quiet_libraries(network=loaded.needs_network)
    found: list[Surveyed] = []
    with explained(loaded):
        loaded = settled(loaded)
        for place, table in loaded.recipe.data.datasets():
            lenient = table.model_copy(update={"on_bad_row": "drop", "max_bad_rows": ANY_NUMBER})
            reading = read_dataset(loaded, lenient, place, tokenizer)
            found.append(
                Surveyed(
                    part=place[1],
                    name=table.dataset,
                    place=place,
                    format=table.format.id(),
                    examples=reading.examples,
                    left_out=dict(reading.left_out),
                    bad=reading.bad.found,
                    notices=[*reading.notices(), *reading.classes.notices()],
                )
            )
    return found


def raw_dataset(loaded: Loaded, place: tuple[str | int, ...]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The raw rows of the dataset at a key of the recipe, each with its origin, as its file or the hub has them."""
    from fttool.rows import hub
    from fttool.rows.raw import raw_rows

    key, table = next(pair for pair in loaded.recipe.data.datasets() if pair[0] == place)
    with explained(loaded):
        yield from raw_rows(loaded, table) if table.paths else hub.rows(table, hub.load(table, key))


def progress(*, quiet: bool = False) -> Screen:
    """Shows on stderr how far a verb is, unless `quiet`: `stage(text)` begins a part, `track(items, what)` is a bar."""
    return choose(quiet=quiet, as_json=False)


def row_tokenizer(loaded: Loaded) -> PreTrainedTokenizerBase:
    """The tokenizer of the recipe's model, with the chat template that the recipe asks for; no weights are loaded."""
    from fttool.rows import chat
    from fttool.rows.filtering import build_source

    quiet_libraries(network=loaded.needs_network)
    with explained(loaded):
        tokenizer = build_source(loaded).tokenizer()
        chat.apply_template(tokenizer, loaded.recipe.model.chat_template, loaded.folder)
    return tokenizer


def row_encoder(loaded: Loaded, tokenizer: PreTrainedTokenizerBase) -> RowEncoder:
    """The recipe's masking: an `Example` to its tokens and labels, however long; `ValueError` where it has no mask."""
    from fttool.rows.checks.calls import CallForm
    from fttool.yielded import built

    form, masking = CallForm(tokenizer), loaded.recipe.masking
    with explained(loaded):
        encode: RowEncoder = built(masking, MaskingContext(tokenizer=tokenizer, **loaded.common))
    return lambda example: encode(form.shaped(example))


def ready_filters(loaded: Loaded) -> tuple[list[Filter], dict[str, str]]:
    """Every installed filter that can judge these rows: the recipe's own with its options, all others with none set.

    Returns them with those that cannot, by id, and why: an option must be given, or a plugin is broken.
    """
    own = {strategy.id(): strategy for strategy in loaded.recipe.filters}
    kinds, absent = installed(loaded.plugins, "filter")
    ready: list[Filter] = []
    for kind in kinds:
        if not issubclass(kind, Filter):
            continue
        if kind.id() in own:
            ready += [strategy for strategy in loaded.recipe.filters if strategy.id() == kind.id()]
            continue
        needed = [name for name, option in kind.model_fields.items() if option.is_required()]
        if needed:
            absent[kind.id()] = f"needs options: {', '.join(needed)}"
        elif kind.serves(loaded.recipe.task.learns):
            try:
                ready.append(kind())  # pyright: ignore[reportAbstractUsage]
            except ValueError as wrong:  # options that are needed together
                absent[kind.id()] = f"needs options: {gist(wrong)}"
    return ready, absent


Judge = Callable[[Filter, Sequence[Example]], Sequence[Verdict]]
"""A filter and rows → its verdict on each: None where there is nothing to say of it."""


def judging(
    loaded: Loaded,
    tokenizer: PreTrainedTokenizerBase,
    train: Sequence[Example],
    measured_rows: Sequence[Example],
    *,
    quiet: bool = False,
) -> Judge:
    """What asks a filter about rows. `train` are all training rows, of which the evaluation share sets some aside;
    `measured_rows` are those of evaluation and retention.

    A filter shows on stderr how far it is, unless `quiet`.
    """
    from fttool.rows.filtering import cache_folder, filter_context, set_aside
    from fttool.yielded import built, check_verdicts

    aside = set_aside(train, loaded.recipe.data.eval_share)
    context = filter_context(loaded, tokenizer, measured_rows, aside, progress(quiet=quiet).track)

    def judge(strategy: Filter, examples: Sequence[Example]) -> Sequence[Verdict]:
        own = replace(context, cache=partial(cache_folder, f"filters/{strategy.id()}"))
        verdicts = built(strategy, own)(examples)
        check_verdicts(strategy, verdicts, examples)
        return verdicts

    return judge


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A format that takes the first rows of a file."""

    format: str
    """Its id."""
    level: Level
    """What the rows are for: `token`, `row`, `word` or `number`."""
    taken: int
    """How many of the rows it takes."""
    tried: int
    """How many it was tried on."""
    example: Example
    """What it makes of the first one that it takes."""


def fits(file: Path, plugins: Plugins) -> list[Fit]:
    """Formats that take at least half of a file's first rows, those that take most first.

    Of equals the one comes first whose level does in `LEVELS`.
    """
    from fttool.rows.format_detection import candidates, takes

    rows = first_rows(file)
    found: list[Fit] = []
    for level in LEVELS:
        for form in candidates(plugins, level):
            taken = [example for row in rows if (example := takes(form, row, level)) is not None]
            if taken and 2 * len(taken) >= len(rows):
                found.append(Fit(format=form.id(), level=level, taken=len(taken), tried=len(rows), example=taken[0]))
    return sorted(found, key=lambda fit: -fit.taken)
