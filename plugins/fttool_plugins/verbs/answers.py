"""What `fttool predict` says of texts, by what their model is for: classes, a number, or pieces of text with labels."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

from fttool_plugins.format.tagged import joined
from fttool_plugins.task.classifying import chosen, classify, numbers
from fttool_plugins.task.tagging import in_words, spans, tagged

WORD = re.compile(r"\w(?:\S*\w)?|\S")
"""A word of a text that comes without its words: what stands between blanks, without the punctuation around it."""


class Text(NamedTuple):
    """A text that is asked about."""

    origin: str
    """Where it comes from, `file:line`."""
    first: str
    second: str = ""
    """Its second text; empty where there is none."""
    words: tuple[str, ...] = ()
    """Its words, where they are known."""


class Answer(NamedTuple):
    """What is said of a text."""

    line: str
    """For people."""
    data: dict[str, Any]
    """For programs."""


class Asked(NamedTuple):
    """A model and how it is asked."""

    model: Any
    tokenizer: Any
    max_length: int | None
    """Tokens at which texts are cut; None for no end."""
    as_text: bool
    """Whether what reads like a special token is made text."""


def of_rows(asked: Asked, texts: Sequence[Text]) -> list[Answer]:
    """The classes of each text with their probabilities, or its number."""
    model, tokenizer, max_length, as_text = asked
    pairs = [(text.first, text.second) for text in texts]
    if model.config.problem_type == "regression":
        predicted = numbers(model, tokenizer, pairs, max_length, as_text=as_text)
        return [_number(text, number) for text, number in zip(texts, predicted, strict=True)]
    several = model.config.problem_type == "multi_label_classification"
    said = classify(model, tokenizer, pairs, max_length, as_text=as_text)
    return [_classes(text, chosen(p, multi_label=several), p) for text, p in zip(texts, said, strict=True)]


def of_words(asked: Asked, texts: Sequence[Text]) -> list[Answer]:
    """The pieces of each text that have a label: entities, or all words where tags are not of entities."""
    model, tokenizer, max_length, as_text = asked
    places = [[match.span() for match in WORD.finditer(text.first)] for text in texts]
    words = [
        text.words or tuple(text.first[start:end] for start, end in row_spans)
        for text, row_spans in zip(texts, places, strict=True)
    ]
    read = [joined(text.origin, row_spans) for text, row_spans in zip(texts, words, strict=True)]
    tags = tagged(model, tokenizer, read, max_length, as_text=as_text)
    answers: list[Answer] = []
    for index, text in enumerate(texts):
        said = read[index] if text.words else replace(read[index], prompt=text.first, words=tuple(places[index]))
        row_spans = spans(said, tags[index])
        data = {"origin": text.origin, "text": said.prompt, "spans": [span._asdict() for span in row_spans]}
        answers.append(Answer(f"{in_words(said, tags[index])}  {_shortly(said.prompt)}", data))
    return answers


def blank(asked: Asked, text: Text) -> Answer:
    """The answer to a line without a text, with the same keys."""
    if type(asked.model).__name__.endswith("ForTokenClassification"):
        keys: tuple[str, ...] = ("spans",)
    else:
        keys = ("value",) if asked.model.config.problem_type == "regression" else ("classes", "probabilities")
    return Answer("(blank)", {**_said(text), **dict.fromkeys(keys)})


Says: TypeAlias = Callable[[Asked, Sequence[Text]], list[Answer]]
SAYS: Mapping[str, Says] = {"SequenceClassification": of_rows, "TokenClassification": of_words}
"""By what the model is for, see `model_head`."""


def _classes(text: Text, names: Sequence[str], probabilities: Mapping[str, float]) -> Answer:
    """`spam  98.1%  the text's beginning`."""
    shown = ", ".join(f"{name} {probabilities[name]:6.1%}" for name in names) or "no class"
    return Answer(
        f"{shown}  {_shortly(*text[1:3])}", {**_said(text), "classes": names, "probabilities": dict(probabilities)}
    )


def _number(text: Text, number: float) -> Answer:
    return Answer(f"{number:.4f}  {_shortly(*text[1:3])}", {**_said(text), "value": number})


def _said(text: Text) -> dict[str, str]:
    return {"origin": text.origin, "text": text.first, **({"second": text.second} if text.second else {})}


def _shortly(*texts: str) -> str:
    return textwrap.shorten(" ".join(texts), 80, placeholder=" …")
