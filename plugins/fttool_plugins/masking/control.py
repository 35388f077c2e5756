"""Text of a row that reads like a control token: `<|im_end|>` in a question, `</s>` in an answer.

A tokenizer makes the token itself of it, wherever it stands. In a conversation that is a turn's boundary where no turn
ends, and a forged turn that is learned. So such rows are refused, or their text is encoded as the text that it is.

Only special tokens count: those that are not text to the tokenizer. In plain text BOS in front and EOS at the end are
what a person may write there, and mean.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from fttool.api import Message
from fttool_plugins.masking.tokens import Tokens, special_ids, special_pattern, special_texts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from fttool_plugins.masking.of_turns import ControlTokens
    from fttool_plugins.masking.writing import Written

SHOWN = 3
"""Places that are named of one token."""
LEADS = ("\n", "x", ".", "0")
"""What a text is put after to be tokenized as in the middle of others, for SentencePiece puts a space in front of what
stands alone; the first that does not grow together with it."""
AS_TEXT = "with control tokens in their text, encoded as text"
KEPT = "with control tokens in their text, read as such"
"""Remarks on rows."""


class Control:
    """What becomes of the control tokens in the texts of rows."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, choice: ControlTokens) -> None:
        self._tokenizer = tokenizer
        self._choice = choice
        self._special = special_ids(tokenizer)
        self._pattern = special_pattern(tokenizer)
        self._firsts = {text[0] for text in special_texts(tokenizer)}
        """Characters with which control tokens begin: most texts have none of them, and are searched no further."""
        self._pieces: dict[str, tuple[list[int], list[tuple[int, int]]]] = {}
        """Text of a control token → its pieces as text, and the characters each stands for."""

    def remarks(self, any_found: bool) -> tuple[str, ...]:
        """What is to be said of a row that has such text."""
        return (AS_TEXT if self._choice == "text" else KEPT,) if any_found else ()

    @property
    def as_text(self) -> bool:
        """True where they are encoded as text."""
        return self._choice == "text"

    def check(self, texts: Iterable[tuple[str, str]]) -> bool:
        """True where one of the texts, each with the name of its place, has a control token.

        Raises `ValueError` with their number and places where they are refused.
        """
        tokens = [(token, place) for place, text in texts for token in self._pattern.findall(text)]
        if tokens and self._choice == "refuse":
            shown = ", ".join(_shown(token, tokens) for token in dict.fromkeys(token for token, _ in tokens))
            number = f"{len(tokens)} control token{'s' if len(tokens) > 1 else ''}"
            raise ValueError(
                f'the row\'s text has {number}: {shown}; [masking] control_tokens = "text" encodes such text as text, '
                '"keep" as the control tokens'
            )
        return bool(tokens)

    def check_conversation(self, messages: Iterable[Message], variables: Mapping[str, Any]) -> bool:
        """`check` of all that a chat template is given of a row.

        Raises `ValueError` for those in a variable too, which cannot be told from the template's own: only kept.
        """
        tokens = any(map(self._may_hold, _said(messages, variables))) and self.check(texts_of(messages, variables))
        for name in variables.keys() - {"tools", "documents"}:
            for text in _strings(variables[name]) if self._choice != "keep" else ():
                if token := self._pattern.search(text):
                    raise ValueError(f"the template's variable '{name}' has the control token {token.group()!r}")
        return tokens

    def _may_hold(self, text: str) -> bool:
        return any(map(text.__contains__, self._firsts)) and self._pattern.search(text) is not None

    def own(self, tokens: Tokens, written: Written) -> list[int]:
        """The control tokens whose whole text messages, tools or documents have written, and not the template."""
        return [
            token
            for token in range(len(tokens.ids))
            if tokens.is_special(token) and (place := tokens.place(token)) and place[0] < place[1]
            if written.is_said(*place)
        ]

    def encoded(self, tokens: Tokens, control: Iterable[int]) -> Tokens:
        """The tokens with pieces of text in place of the given ones.

        Raises `ValueError` where the tokenizer has no other way to write such a text.
        """
        places = set(control)
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        for token, id_ in enumerate(tokens.ids):
            start, end = tokens.place(token)
            pieces, inside = self._text(tokens.text[start:end]) if token in places else ([id_], [(0, end - start)])
            ids += pieces
            offsets += [(start + first, start + last) for first, last in inside]
        return Tokens(tokens.text, ids, tokens.special_ids, offsets)

    def ids(self, text: str) -> list[int]:
        """The tokens of plain text, with no control token among them."""
        ids: list[int] = []
        borders = [0, *(place for match in self._pattern.finditer(text) for place in match.span()), len(text)]
        for index, (start, end) in enumerate(pairwise(borders)):
            part = text[start:end]
            ids += self._text(part)[0] if index % 2 else self._behind(ids, part)
        return ids

    def _behind(self, before: list[int], text: str) -> list[int]:
        if not text:
            return []
        if before:
            return self._plain(text, split=False)[0]
        return list(self._tokenizer(text, add_special_tokens=False, truncation=False, verbose=False)["input_ids"])

    def _text(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        if text not in self._pieces:
            ids, offsets = self._plain(text, split=True)
            if self._special.intersection(ids) or not ids:
                raise ValueError(f"the tokenizer cannot write {text!r} as text: it makes the control token of it")
            self._pieces[text] = ids, offsets
        return self._pieces[text]

    def _plain(self, text: str, *, split: bool) -> tuple[list[int], list[tuple[int, int]]]:
        """A text as it is tokenized after others; with `split`, special tokens are made into pieces."""
        options: dict[str, Any] = {"add_special_tokens": False, "truncation": False, "verbose": False}
        options["split_special_tokens"] = split
        for lead in LEADS:
            leading = list(self._tokenizer(lead, **options)["input_ids"])
            both: Any = self._tokenizer(lead + text, return_offsets_mapping=True, **options)
            count = len(leading)
            if list(both["input_ids"][:count]) == leading:
                offsets = [(max(0, first - len(lead)), last - len(lead)) for first, last in both["offset_mapping"]]
                return list(both["input_ids"])[count:], offsets[count:]
        alone: Any = self._tokenizer(text, return_offsets_mapping=True, **options)
        return list(alone["input_ids"]), list(alone["offset_mapping"])


def texts_of(messages: Iterable[Message], variables: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every text of a conversation with the words for its place; roles are the template's."""
    for number, message in enumerate(messages, 1):
        for key, value in message.items():
            if key != "role":
                yield from ((f"message {number} ({message.get('role')}, {key})", text) for text in _strings(value))
    for key in ("tools", "documents"):
        yield from ((f"the {key}", text) for text in _strings(variables.get(key)))


def _said(messages: Iterable[Message], variables: Mapping[str, Any]) -> Iterator[str]:
    """The same texts without their places."""
    for message in messages:
        for key, value in message.items():
            if type(value) is str and key != "role":
                yield value
            elif key != "role":
                yield from _strings(value)
    for key in ("tools", "documents") if variables else ():
        yield from _strings(variables.get(key))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _strings(key)
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)


def _shown(token: str, tokens: list[tuple[str, str]]) -> str:
    """Where in a row a token is: `'</s>' in message 1 (user, content), message 2 (assistant, content) (2 times)`."""
    places = Counter(place for other_token, place in tokens if other_token == token)
    named = [place + (f" ({count} times)" if count > 1 else "") for place, count in places.items()][:SHOWN]
    more = len(places) - len(named)
    return f"{token!r} in {', '.join(named)}{f' and {more} more' if more else ''}"
