"""Where the tokens of somebody else part from those of training, and what that looks like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from fttool.api import Encoded, Example, Message, RowEncoder, chat_ids
from fttool_plugins.verbs.check_template.others import Other

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FURTHER = {"role": "user", "content": "And then?"}
"""A question behind a row's last answer, so that the answer's end is written."""
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

    def as_data(self) -> dict[str, Any]:
        """For programs."""
        return {"rows": self.rows, "prompts": self.prompts, "differences": list(map(asdict, self.differences))}


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
        for ours, theirs in _asked(example, row, tokenizer, other):
            prompts += 1
            differences += _differences(example, ours, theirs, tokenizer)
        if (end := _end(row)) is not None:
            ends.setdefault(end, example.origin)
    for end, origin in ends.items():
        text = str(tokenizer.decode([end]))
        if wrong := other.stops_at(end, text):
            differences.append(Difference(origin, f"the end of an answer: {wrong}", 0, "", text))
    return Found(rows, prompts, differences)


def _asked(
    example: Example, row: Encoded, tokenizer: PreTrainedTokenizerBase, other: Other
) -> Iterator[tuple[list[int], list[int]]]:
    """The tokens of training and theirs, of each prompt that a row is asked for with."""
    if not example.messages:
        if example.prompt:
            begin = next((at for at, label in enumerate(row.labels) if label != -100), len(row.labels))
            yield row.input_ids[:begin], other.plain(example.prompt)
        return
    answers = [index for index, message in enumerate(example.messages) if message.get("role") == "assistant"]
    last = max(row.turns, default=answers[-1])
    asked = example.messages[:last]
    yield _trained(asked, example, row, tokenizer), other.prompt(asked, example.template)
    further: tuple[Message, ...] = (*example.messages[: last + 1], FURTHER)
    yield (
        chat_ids(tokenizer, further, add_generation_prompt=True, **example.template),
        other.prompt(further, example.template),
    )


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
    bos = tokenizer.bos_token_id
    if isinstance(bos, int):
        if theirs[:2] == [bos, bos] and ours[:2] != [bos, bos]:
            return "BOS stands there twice"
        if ours[:1] == [bos] != theirs[:1] and theirs == ours[1:]:
            return "BOS is missing"
        if theirs[:1] == [bos] != ours[:1] and theirs[1:] == ours:
            return "a BOS that training has not seen"
    elif theirs[1:] == ours:
        return "one token in front that training has not seen"
    written = _text(tokenizer, theirs)
    for message in example.messages:
        said = message.get("content")
        if message.get("role") in ("system", "developer") and isinstance(said, str) and said.strip() not in written:
            return "the system turn is missing"
    same = _text(tokenizer, ours) == written
    return "the same text in other tokens" if same else "another template"


def _text(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    known = [token for token in ids if token < len(tokenizer)]  # type: ignore[arg-type]
    unknown = "" if len(known) == len(ids) else f" (and {len(ids) - len(known)} unknown tokens)"
    return str(tokenizer.decode(known)) + unknown


def _end(row: Encoded) -> int | None:
    """The last token that a row teaches, which is to end an answer."""
    return next((label for label in reversed(row.labels) if label != -100), None)


def report(found: Found, name: str) -> Iterator[str]:
    """Each kind of difference with its number and its first place."""
    asked = f"{found.prompts:,} prompts of {found.rows:,} rows"
    if not found.differences:
        yield f"{name}: {asked} have the tokens of training, and answers end as training ends them"
        return
    yield f"{name}: of {asked} some have other tokens than training:"
    for kind, count in Counter(difference.kind for difference in found.differences).most_common():
        first = next(difference for difference in found.differences if difference.kind == kind)
        yield f"  {count:,} × {kind}"
        if first.theirs or not kind.startswith("the end"):
            yield f"      {first.row}, at token {first.token}: there {first.theirs!r}, in training {first.training!r}"
