"""What a model says of the words of texts: a tag for each. For samples in a run, and for `fttool predict`.

A text is read as in training. What is beyond the longest row is not lost: it is read as a text of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from fttool.api import Example
from fttool_plugins.masking.wordwise import encode_words
from fttool_plugins.task.entities import OUTSIDE, entities, is_of_entities

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TEXTS_AT_ONCE = 16
"""Texts in one forward pass."""


class Span(NamedTuple):
    """A piece of a text with its label; `start` and `end` (exclusive) in characters of it."""

    text: str
    label: str
    start: int
    end: int


class Part(NamedTuple):
    """Words of a text that go through the model together."""

    example: int
    """Which of the texts."""
    first: int
    """The number of its first word."""
    ids: list[int]
    words: list[int]
    """Of each token, −1 for none; the first word is 0."""


def tagged(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    max_length: int | None,
    *,
    as_text: bool = True,
) -> list[list[str]]:
    """The tag of each word of each text, by the word's first token; `O` for a word of which there is no token.

    `as_text` makes text of what reads like a special token. The model is in evaluation mode.
    """
    tags_of = [[OUTSIDE] * len(example.words) for example in examples]
    parts = [
        part
        for index, example in enumerate(examples)
        for part in _parts(tokenizer, example, index, max_length, as_text)
    ]
    for start in range(0, len(parts), TEXTS_AT_ONCE):
        window = parts[start : start + TEXTS_AT_ONCE]
        for part, tags in zip(window, _ask(model, tokenizer, window), strict=True):
            for word, tag in reversed([*zip(part.words, tags, strict=True)]):  # the first token speaks last
                if word >= 0:
                    tags_of[part.example][part.first + word] = tag
    return tags_of


def spans(example: Example, tags: Sequence[str]) -> list[Span]:
    """The entities of a text with its words' tags; of tags of another kind, each word with its own."""
    text, places = example.prompt, example.words
    if not all(map(is_of_entities, tags)):
        return [Span(text[start:end], tag, start, end) for (start, end), tag in zip(places, tags, strict=True)]
    listed: list[Span] = []
    for kind, first, last in entities(tags):
        start, end = places[first][0], places[last][1]
        listed.append(Span(text[start:end], kind, start, end))
    return listed


def in_words(example: Example, tags: Sequence[str]) -> str:
    """The same in a line: `Anna Lee [PER], Berlin [LOC]`."""
    return ", ".join(f"{span.text} [{span.label}]" for span in spans(example, tags)) or "no entity"


def _parts(
    tokenizer: PreTrainedTokenizerBase, example: Example, index: int, max_length: int | None, as_text: bool
) -> Iterator[Part]:
    """The words of a text, in as many parts as `max_length` asks for."""
    first = 0
    while first < len(example.words):
        rest = _from_word(example, first)
        try:
            ids, words, cut = encode_words(tokenizer, rest.prompt, rest.words, max_length, as_text)
        except ValueError:  # of none of its words there is a token
            return
        yield Part(index, first, ids, words)
        if not cut:
            return
        first += max(words) + 1


def _from_word(example: Example, first: int) -> Example:
    """The text from one of its words on."""
    start = example.words[first][0]
    places = tuple((begin - start, end - start) for begin, end in example.words[first:])
    return replace(example, prompt=example.prompt[start:], words=places)


def _ask(model: Any, tokenizer: Any, parts: Sequence[Part]) -> list[list[str]]:
    """The likeliest tag of each token."""
    import torch

    width = max(len(part.ids) for part in parts)
    ids_BT = torch.full((len(parts), width), tokenizer.pad_token_id or 0)
    mask_BT = torch.zeros_like(ids_BT)
    for index, part in enumerate(parts):
        ids_BT[index, : len(part.ids)] = torch.tensor(part.ids)
        mask_BT[index, : len(part.ids)] = 1
    with torch.no_grad():
        logits_BTC = model(input_ids=ids_BT.to(model.device), attention_mask=mask_BT.to(model.device)).logits
    numbers_BT: list[list[int]] = logits_BTC.argmax(-1).tolist()
    names = model.config.id2label
    return [
        [names[number] for number in numbers[: len(part.ids)]] for part, numbers in zip(parts, numbers_BT, strict=True)
    ]
