"""Does inference see what training saw? Rows that are learned from are asked for as inference asks, token for token.

A model is trained on the render of a whole conversation, and asked with the render of the turns before an answer and
the template's generation prompt. Templates write the two differently: a prompt that opens a thought before answers
that have none, earlier turns without their thoughts, another token at the end of the last turn. What the model has
learned is then an answer to a prompt that it never gets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fttool.contracts.rows import Encoded, Example, RowEncoder
from fttool.errors import ModelError, Problem, counted, gist
from fttool.rows.prompts import prompt_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SHOWN_TOKENS = 6
"""Tokens that are shown of either side from where they differ."""

THOUGHT = re.compile(r"think|thought|reason", re.IGNORECASE)
"""What stands in the tags of a thought."""
CLOCK = "strftime_now"
"""transformers' function by which a chat template asks for the date and the time."""

Split = Callable[[Example], Sequence[Example]]
"""What `Masking.split` is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Where the tokens of inference and of training part, in one row."""

    origin: str
    """`file:line` of the row."""
    turn: int | None
    """The learned message, counted from 1; None for plain text."""
    token: int
    """Tokens that both have before they part."""
    inference: str
    """What inference has from there, as text."""
    training: str
    last: bool
    """True where it is the row's last learned turn: no part of what is learned of it fits another prompt."""
    answer: bool = False
    """True where the prompts are the same, and the answer is written otherwise."""
    cut: bool = False
    """True where both are the same text, in other tokens where an earlier answer begins; these are shown one by one."""

    def __str__(self) -> str:
        if self.cut:
            return (
                f"{self.origin}: at token {self.token} (where the answer of message {self.turn} begins) inference has "
                f"the tokens {self.inference}, training {self.training}"
            )
        what = "of the prompt" if self.turn is None else f"of message {self.turn}"
        what = "of the answer, " + what if self.answer else what
        return (
            f"{self.origin}: at token {self.token} ({what}) inference has {self.inference!r}, training "
            f"{self.training!r}"
        )


@dataclass(frozen=True, slots=True)
class Agreement:
    """What was compared, and what differs."""

    rows: int = 0
    """Rows that were compared."""
    last: tuple[Difference, ...] = ()
    """One for each row whose last learned turn differs."""
    earlier: tuple[Difference, ...] = ()
    """One for each row of which only earlier turns differ."""
    dated: tuple[str, ...] = ()
    """The rows into which the chat template writes what the clock says."""

    def findings(self) -> Iterator[Problem]:
        """Each kind of difference with its share of the rows, its first tokens, and what to do about it."""
        if self.last:
            yield Problem(
                f"prompts have other tokens at inference than in training, in {self._share(self.last)}: {self.last[0]}",
                hint=_remedy(self.last[0]),
                key=("model", "template_difference"),
            )
        hint = '[masking] history = "as-asked" makes each learned turn a row of its own, as inference asks'
        if written := [difference for difference in self.earlier if not difference.cut]:
            yield Problem(
                f"the chat template writes earlier turns differently from how inference asks for them, in "
                f"{self._share(written)}: {written[0]}",
                hint=hint,
                key=("masking",),
            )
        if cut := [difference for difference in self.earlier if difference.cut]:
            yield Problem(
                "the text is cut into tokens where an answer begins, as inference asks for it; in the history of later "
                f"turns inference does not cut it, in {self._share(cut)}: {cut[0]}",
                hint=hint,
                key=("masking",),
            )
        if self.dated:
            yield Problem(
                f"the chat template writes the date of today into {self._share(self.dated)} ({self.dated[0]}): on "
                "another day the prompts differ, and a resumed run reads other tokens",
                hint="give the date in the rows' chat_template_kwargs where the template has a variable for it "
                "(date_string), or choose a [model] chat_template without it",
                key=("model", "chat_template"),
            )

    def described(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "rows": self.rows,
            "last_turn_differs": len(self.last),
            "earlier_turns_differ": len(self.earlier),
            "dated": len(self.dated),
            "first": [asdict(differences[0]) for differences in (self.last, self.earlier) if differences],
        }

    def _share(self, differences: Sequence[object]) -> str:
        return f"{len(differences):,} of {counted(self.rows, 'row')} ({len(differences) / self.rows:.0%})"


def _remedy(difference: Difference) -> str:
    allow = 'or set model.template_difference = "allow"'
    if difference.turn is None:
        return f"the tokenizer ends or begins a prompt by itself: check the tokenizer's own settings; {allow}"
    if not THOUGHT.search(difference.inference + difference.training):
        return f"choose a [model] chat_template that writes the turns as it does where it asks for one; {allow}"
    return (
        "where the prompt opens a thought, the answers need one (reasoning_content), or the rows say "
        f'"chat_template_kwargs": {{"enable_thinking": false}}; else choose another [model] chat_template; {allow}'
    )


def compare(
    examples: Iterable[Example],
    split: Split,
    encode: RowEncoder,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int | None = None,
) -> Agreement:
    """Ask for every learned turn of the examples as inference does; tokens from `max_length` on are not compared.

    Rows that masking refuses, those of which no token is learned, and
    those with control tokens as text are left out.
    """
    rows = 0
    differences: list[Difference] = []
    dated: list[str] = []
    for example in (part for original in examples for part in split(original)):
        row = _encoded(encode, example)
        if row is None or row.literal or not _up_to_end(row) or not (example.messages or example.prompt):
            continue
        rows += 1
        differences += _first(_differences(example, row, encode, tokenizer, max_length))
        dated += [example.origin] if _is_dated(example, tokenizer) else []
    return Agreement(
        rows, tuple(d for d in differences if d.last), tuple(d for d in differences if not d.last), tuple(dated)
    )


def _is_dated(example: Example, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the prompt is another one where the template's clock stands elsewhere."""
    if not example.messages or CLOCK not in str(tokenizer.get_chat_template(tools=example.template.get("tools"))):
        return False
    elsewhere = replace(example, template={**example.template, CLOCK: lambda form: f"[{form}]"})
    return _prompt(example, tokenizer) != _prompt(elsewhere, tokenizer)


def _first(differences: Iterable[Difference]) -> list[Difference]:
    """The gravest difference of a row: of its last learned turn, else its first one."""
    return sorted(differences, key=lambda difference: not difference.last)[:1]


def _differences(
    example: Example, row: Encoded, encode: RowEncoder, tokenizer: PreTrainedTokenizerBase, max_length: int | None
) -> Iterator[Difference]:
    """Where a row's learned turns are asked for in other tokens than the row has, or answered in others."""

    def cut(prompt: list[int], message: int, place: int) -> Difference:
        there, here = (_pieces(tokenizer, ids[place : place + SHOWN_TOKENS]) for ids in (prompt, row.input_ids))
        return Difference(
            origin=example.origin, turn=message + 1, token=place, inference=there, training=here, last=False, cut=True
        )

    def parted(asked: list[int], turn: int | None, *, last: bool, answer: bool = False) -> Iterator[Difference]:
        place = _parting(asked, row.input_ids, max_length)
        if place is not None:
            there, here = (_shown(tokenizer, ids[place:]) for ids in (asked, row.input_ids))
            number = None if turn is None else turn + 1
            yield Difference(
                origin=example.origin,
                turn=number,
                token=place,
                inference=there,
                training=here,
                last=last,
                answer=answer,
            )

    if not example.messages:
        yield from parted(prompt_ids(example, tokenizer), None, last=True)
        return
    turns = row.turns or (max(index for index, m in enumerate(example.messages) if m.get("role") == "assistant"),)
    for turn in turns:
        last = turn == turns[-1]
        asked = replace(example, messages=example.messages[: turn + 1], completion_from=turn)
        prompt = _prompt(asked, tokenizer)
        if prompt is None:  # the template cannot ask here, so inference does not either
            continue
        before, place = _cut_in_history(prompt, row, tokenizer), _parting(prompt, row.input_ids, max_length)
        if before is not None and place is not None:
            yield cut(prompt, before, place)
            continue
        differs = list(parted(prompt, turn, last=last))
        yield from differs
        if not differs and turn + 1 < len(example.messages) and (alone := _encoded(encode, asked)) is not None:
            yield from parted(_up_to_end(alone), turn, last=False, answer=True)


def _cut_in_history(prompt: list[int], row: Encoded, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The earlier learned message at whose beginning the prompt has other tokens for the same text; None where none is.

    Masking cuts the text where such a turn begins, as inference asks for it there; after it, inference does not.
    """
    place = _parting(prompt, row.input_ids, None)
    learned = [at for at, label in enumerate(row.labels) if label != -100]
    begins = [at for before, at in pairwise([-2, *learned]) if at > before + 1]
    if place is None or len(begins) != len(row.turns) or not begins or place > begins[-1]:
        return None
    if not str(tokenizer.decode(row.input_ids)).startswith(str(tokenizer.decode(prompt))):
        return None
    return next((turn for turn, begin in zip(row.turns[:-1], begins, strict=False) if place <= begin), None)


def _encoded(encode: RowEncoder, example: Example) -> Encoded | None:
    try:
        return encode(example)
    except ValueError:  # it is refused where it is prepared
        return None


def _prompt(example: Example, tokenizer: PreTrainedTokenizerBase) -> list[int] | None:
    """What inference asks with; None where the template refuses."""
    try:
        return prompt_ids(example, tokenizer)
    except ModelError:  # it never ends, or writes without end
        raise
    except Exception:  # a template is foreign code: it may raise anything
        return None


def _up_to_end(row: Encoded) -> list[int]:
    """The tokens up to the last one that is learned."""
    learned = [place for place, label in enumerate(row.labels) if label != -100]
    return row.input_ids[: learned[-1] + 1 if learned else 0]


def _parting(asked: Sequence[int], trained: Sequence[int], max_length: int | None) -> int | None:
    """The first token at which `trained` does not begin as `asked` does; None where it does."""
    pairs = enumerate(zip(asked[:max_length], trained[:max_length], strict=False))
    place = next((index for index, (mine, other) in pairs if mine != other), min(len(asked), len(trained)))
    return place if place < len(asked[:max_length]) else None


def _shown(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids[:SHOWN_TOKENS]))) if ids else ""


def _pieces(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """Each token by itself, for texts that are the same."""
    return " ".join(repr(str(tokenizer.decode([id_]))) for id_ in ids)


def refuse_difference(agreement: Agreement, allowed: str) -> None:
    """Raise `ModelError` where the last learned turns of rows differ and the recipe does not allow it."""
    if agreement.last and allowed == "refuse":
        raise ModelError(next(agreement.findings()))


def refuse_saved_difference(
    tokenizer: PreTrainedTokenizerBase, folder: Path, examples: Iterable[Example], *, trust_remote_code: bool
) -> None:
    """Raise `ModelError` where the saved tokenizer and template ask for a row in other tokens than those of the run."""
    from transformers import AutoTokenizer

    try:
        saved: Any = AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=trust_remote_code
        )
    except Exception as fault:  # transformers raises a dozen kinds
        message = f"the saved tokenizer cannot be loaded again: {gist(fault)}"
        raise ModelError(message, where=str(folder), hint="the model was saved; fix its tokenizer's files") from fault
    for example in examples:
        ours, theirs = _prompt(example, tokenizer), _prompt(example, saved)
        if ours == theirs:
            continue
        there, here = (ids or [] for ids in (theirs, ours))
        parted = _parting(there, here, None)
        place = len(there) if parted is None else parted
        raise ModelError(
            f"the saved tokenizer asks differently from the one of the run: {example.origin}: at token {place} "
            f"{_shown(saved, there[place:])!r} was {_shown(tokenizer, here[place:])!r}",
            where=str(folder),
            hint="copy the source's own tokenizer files over those in the folder",
        )
