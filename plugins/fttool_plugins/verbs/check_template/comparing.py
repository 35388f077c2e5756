"""Where the tokens of somebody else part from those of training, and what that looks like."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from fttool.api import Encoded, Example, Message, RowEncoder, chat_ids
from fttool.verbs import counted
from fttool_plugins.verbs.check_template.losses import Losses
from fttool_plugins.verbs.check_template.others import Other, RefusedError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FURTHER = {"role": "user", "content": "And then?"}
"""A question behind a row's last answer, so that the answer's end is written."""
END = "the end of an answer"
REFUSED = "it refuses the conversation"
DATE = re.compile(r"\d{1,2} [A-Z][a-z]{2,8} \d{4}|\d{4}-\d\d-\d\d")
"""As templates write that of today (Llama 3's, gpt-oss'): a server has another one than training had."""
SHOWN = 8
"""Tokens that are shown of either side from where they part."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One prompt whose tokens are not those of training."""

    row: str
    """`file:line` of the row."""
    kind: str
    """What it looks like, in a few words."""
    token: int
    """Tokens that both have before they part."""
    theirs: str
    """What they have from there, as text."""
    training: str
    """What training has."""


@dataclass(frozen=True)
class Found:
    """What was compared, and what differs."""

    rows: int = 0
    """Rows that were compared."""
    prompts: int = 0
    """Prompts that were asked for."""
    differences: list[Difference] = field(default_factory=list[Difference])
    losses: Losses | None = None
    """What both say of the same tokens; None where that was not compared."""

    @property
    def good(self) -> bool:
        """True where nothing differs."""
        return not self.differences and (self.losses is None or not self.losses.differ)

    def as_data(self) -> dict[str, Any]:
        """For programs."""
        losses = None if self.losses is None else {**asdict(self.losses), "differ": self.losses.differ}
        differences = list(map(asdict, self.differences))
        return {"rows": self.rows, "prompts": self.prompts, "differences": differences, "losses": losses}


def compared(
    examples: Sequence[Example], encode: RowEncoder, tokenizer: PreTrainedTokenizerBase, other: Other
) -> Found:
    """Ask for the prompts of each example; those that masking refuses are left out."""
    rows, prompts = 0, 0
    differences: list[Difference] = []
    ends = dict[int, str]()
    for example in examples:
        try:
            row = encode(example)
        except ValueError:
            continue
        rows += 1
        for ours, ask in _prompts(example, row, tokenizer, other):
            prompts += 1
            try:
                differences += _differences(example, ours, ask(), tokenizer)
            except RefusedError as refused:
                differences.append(Difference(example.origin, REFUSED, 0, refused.problems[0].message, ""))
        if (end := _end(row)) is not None:
            ends.setdefault(end, example.origin)
    for end, origin in ends.items():
        text = str(tokenizer.decode([end]))
        if wrong := other.stops_at(end, text):
            differences.append(Difference(origin, f"{END}: {wrong}", 0, "", text))
    return Found(rows, prompts, differences)


def _prompts(
    example: Example, row: Encoded, tokenizer: PreTrainedTokenizerBase, other: Other
) -> Iterator[tuple[list[int], Callable[[], list[int]]]]:
    """The tokens of training, and what asks for theirs, of each prompt that a row is asked for with."""
    if not example.messages:
        if example.prompt:
            begin = next((at for at, label in enumerate(row.labels) if label != -100), len(row.labels))
            yield row.input_ids[:begin], partial(other.plain, example.prompt)
        return
    answers = [index for index, message in enumerate(example.messages) if message.get("role") == "assistant"]
    last = max(row.turns, default=answers[-1])
    asked = example.messages[:last]
    if asked and asked[-1].get("role") != "assistant":  # a turn that servers go on with, instead of ending it
        yield _trained(asked, example, row, tokenizer), partial(other.prompt, asked, example.template)
    further: tuple[Message, ...] = (*example.messages[: last + 1], FURTHER)
    ours = chat_ids(tokenizer, further, add_generation_prompt=True, **example.template)
    yield ours, partial(other.prompt, further, example.template)


def _trained(asked: Sequence[Message], example: Example, row: Encoded, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The row's own tokens in front of its last answer, as many as inference asks with."""
    prompt = chat_ids(tokenizer, asked, add_generation_prompt=True, **example.template)
    return row.input_ids[: len(prompt)]


def _differences(
    example: Example, ours: list[int], theirs: list[int], tokenizer: PreTrainedTokenizerBase
) -> Iterator[Difference]:
    if ours == theirs:
        return
    pairs = enumerate(zip(ours, theirs, strict=False))
    place = next((at for at, (mine, other) in pairs if mine != other), min(len(ours), len(theirs)))
    shown = [_text(tokenizer, ids[place : place + SHOWN]) for ids in (theirs, ours)]
    yield Difference(example.origin, _kind(example, ours, theirs, tokenizer), place, *shown)


def _kind(example: Example, ours: list[int], theirs: list[int], tokenizer: PreTrainedTokenizerBase) -> str:
    """What a difference looks like: a BOS twice or none, a system turn that is not there, or another template."""
    trained, written = _text(tokenizer, ours), _text(tokenizer, theirs)
    if about := _bos(ours, theirs, tokenizer.bos_token_id) or _system(example, trained, written):
        return about
    if trained == written:
        return "the same text in other tokens"
    return "another date" if DATE.sub("", trained) == DATE.sub("", written) else "another template"


def _bos(ours: list[int], theirs: list[int], bos: Any) -> str:
    """What is wrong with the beginning, "" where that is not it."""
    if not isinstance(bos, int):
        return "one token in front that training has not seen" if theirs[1:] == ours else ""
    if theirs[:2] == [bos, bos] and ours[:2] != [bos, bos]:
        return "BOS stands there twice"
    if ours[:1] == [bos] != theirs[:1] and theirs == ours[1:]:
        return "BOS is missing"
    return "a BOS that training has not seen" if theirs[:1] == [bos] != ours[:1] and theirs[1:] == ours else ""


def _system(example: Example, trained: str, written: str) -> str:
    """What has become of a system turn, "" where it stands there as in training.

    A server that takes a template for one without system turns, as llama.cpp does, writes their text into the next.
    """
    texts = [(str(turn.get("role")), turn.get("content")) for turn in example.messages[:2]]
    if len(texts) < 2 or texts[0][0] not in ("system", "developer"):
        return ""
    (_, said), (_, asked) = texts
    if not isinstance(said, str) or not isinstance(asked, str):
        return ""
    if said.strip() not in written:
        return "the system turn is missing"
    between = [text.partition(said.strip())[2].partition(asked.strip())[0].strip() for text in (trained, written)]
    return "the system turn is written into the next one" if between[0] and not between[1] else ""


def _text(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    known = [token for token in ids if token < len(tokenizer)]  # type: ignore[arg-type]
    unknown = "" if len(known) == len(ids) else f" (and {len(ids) - len(known)} unknown tokens)"
    return str(tokenizer.decode(known)) + unknown


def _end(row: Encoded) -> int | None:
    """The last token that a row teaches, which is to end an answer."""
    return next((label for label in reversed(row.labels) if label != -100), None)


def report(found: Found, name: str) -> Iterator[str]:
    """Each kind of difference with its number and its first place, and the loss of both sides."""
    asked = f"{found.prompts:,} prompts of {found.rows:,} rows"
    if found.differences:
        yield f"{name}: of {asked} some have other tokens than training:"
    else:
        yield f"{name}: {asked} have the tokens of training, and answers end as training ends them"
    for kind, count in Counter(difference.kind for difference in found.differences).most_common():
        first = next(difference for difference in found.differences if difference.kind == kind)
        yield f"  {count:,} × {kind}"
        if kind == REFUSED:
            yield f"      {first.row}: {first.theirs}"
        elif not kind.startswith(END):
            yield f"      {first.row}, at token {first.token}: there {first.theirs!r}, in training {first.training!r}"
    if found.losses is not None:
        yield from _loss(found.losses)


def _loss(losses: Losses) -> Iterator[str]:
    formats = f"{losses.number_format or 'an unknown format'} there and {losses.own_format} here"
    apart = abs(losses.theirs - losses.training)
    verdict = "more than" if losses.differ else "within"
    yield (
        f"  loss {losses.theirs:.4f} nats per token there, {losses.training:.4f} under the run's model "
        f"({counted(losses.tokens, 'learned token')} of {counted(losses.rows, 'row')}): {apart:.4f} apart, "
        f"{verdict} the {losses.tolerance:g} that {formats} allow"
    )
    if losses.differ:
        yield "      other weights are served than the run's final ones, or they are read in another way"
    if losses.silent:
        yield f"      nothing is said there of {counted(losses.silent, 'further token')}"
