"""`overlap`: drop or flag rows that share a stretch of words with rows that are measured on, or with a benchmark.

A model that has learned what it is measured on looks better than it is. Shared stretches of 13 words are how GPT-3's
authors told which benchmarks their data held (Brown et al. 2020, "Language Models are Few-Shot Learners", arXiv
2005.14165, appendix C); what occurs in more than ten documents they took for a common phrase.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field
from typing_extensions import override

from fttool.api import Example, Filter, FilterContext, Kept, Problem, Reason, RowFilter, Verdict
from fttool_plugins.filter.benchmark_files import benchmark_texts
from fttool_plugins.filter.parts import part_text

if TYPE_CHECKING:
    from fttool.api import Recipe

WORD = r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W\u0e00-\u0eff\u3040-\u9fff\uf900-\ufaff]+"
"""A word; where a script writes none apart, as Chinese and Thai do, a character."""


class Overlap(Filter):
    """Drop or flag rows that share `n` words in a row with an evaluation or retention row, or with a benchmark file.

    Case and punctuation make no difference. What the system says is not compared. Shorter texts are compared as a
    whole: the question that is asked, from `shortest` words on, and the row with its answer. Stretches that more than
    `common` different rows have are phrases of the dataset, such as an instruction that all begin with, and no overlap.

    Rows that `data.eval_share` sets aside are evaluation rows too, and other rows are compared with them.

    Cost: about 0.1 ms a row, and 100 bytes a word of what is measured on.
    """

    name: Literal["overlap"] = "overlap"
    n: Annotated[int, Field(ge=2)] = 13
    """Words in a row that two texts must share; in scripts without blanks, characters."""
    shortest: Annotated[int, Field(ge=1)] = 5
    """Fewest words of a question of less than `n` that is compared as a whole."""
    common: Annotated[int, Field(ge=1)] = 10
    """Most rows of different text that may share a stretch, for it to be an overlap and not a common phrase."""
    files: tuple[str, ...] = ()
    """Benchmarks that are not in the recipe: files of JSON lines or JSON, of which each text is compared, or of text
    line by line; relative to the recipe."""
    action: Literal["drop", "flag"] = "drop"
    """What becomes of such a row: dropped, or only counted."""

    @override
    def check_files(self, recipe: Recipe, folder: Path) -> Iterable[Problem]:
        for index, name in enumerate(self.files):
            if not (folder / name).is_file():
                yield Problem(f"there is no file '{name}' here", hint=f"looked in {folder}", key=("files", index))

    @override
    def build(self, ctx: FilterContext) -> RowFilter:
        def decide(examples: Sequence[Example]) -> list[Verdict]:
            aside = [ctx.measured(example) for example in examples]
            elsewhere = self._measured(ctx)
            here = self._grams_of(example for example, is_aside in zip(examples, aside, strict=True) if is_aside)
            if not elsewhere and not here:
                return [None] * len(examples)
            pairs = ctx.track(list(zip(examples, aside, strict=True)), "comparing with what is measured")
            shared = [
                [gram for gram in self._grams(example) if gram in elsewhere or (gram in here and not is_aside)]
                for example, is_aside in pairs
            ]
            rows = Counter(gram for _, grams in _different(examples, shared) for gram in grams)
            measured = here | elsewhere
            return [self._verdict([measured[gram] for gram in grams if rows[gram] <= self.common]) for grams in shared]

        return decide

    def _verdict(self, found: Sequence[_Measured]) -> Verdict:
        if not found:
            return None
        reason = Reason(f"overlaps {found[0].what}", like=found[0].origin, severity=len(found))
        return Kept(reason) if self.action == "flag" else reason

    def _measured(self, ctx: FilterContext) -> dict[int, _Measured]:
        """Stretches of evaluation and retention rows and of benchmarks → where each is from."""
        measured = self._grams_of(ctx.measured_rows)
        for name in self.files:
            file = ctx.folder / name
            for line, text in benchmark_texts(file):
                place = _Measured(f"a row of {file.name}", f"{name}:{line}")
                measured.update(dict.fromkeys(grams(words(text), self.n, self.shortest), place))
        return measured

    def _grams_of(self, examples: Iterable[Example]) -> dict[int, _Measured]:
        """Stretches of rows that are measured on → the first row that has each."""
        measured: dict[int, _Measured] = {}
        for example in examples:
            place = _Measured("an evaluation row", example.origin)
            measured.update({gram: place for gram in self._grams(example) if gram not in measured})
        return measured

    def _grams(self, example: Example) -> set[int]:
        """Stretches of the row's turns without the system's, and the question where it is short."""
        said = [turn for turn in example.messages if turn.get("role") not in ("system", "developer")]
        whole = part_text(example, "row") if not said else "\n".join(str(turn.get("content") or "") for turn in said)
        return grams(words(whole), self.n, 1) | grams(words(question(example)), self.n, self.shortest)


@dataclass(frozen=True, slots=True)
class _Measured:
    """Where a stretch is from."""

    what: str
    origin: str


def _different(examples: Sequence[Example], shared: Sequence[list[int]]) -> Iterable[tuple[str, list[int]]]:
    """The stretches of each different text."""
    return {part_text(example, "row"): grams for example, grams in zip(examples, shared, strict=True) if grams}.items()


def question(example: Example) -> str:
    """What is asked: the last turn before the completion, or the prompt."""
    if example.messages:
        asked = [turn for turn in example.messages[: example.completion_from] if turn.get("role") == "user"]
        return str(asked[-1].get("content") or "") if asked else ""
    return example.prompt


def words(text: str) -> list[str]:
    """The words of a text, whatever their case and what stands between them."""
    return re.findall(WORD, text.casefold())


def grams(found: Sequence[str], n: int, shortest: int) -> set[int]:
    """Hashes of all `n` words in a row; of fewer, but `shortest` at least, a hash of all of them. 64 bits each."""
    if len(found) < n:
        return {hash(("whole", *found))} if len(found) >= shortest else set()
    return {hash(tuple(found[start : start + n])) for start in range(len(found) - n + 1)}
