"""The tokens of a text out of those of its pieces, where a tokenizer makes them so.

Byte-level tokenizers cut a text at their added tokens and by a pattern (words, numbers, signs, white space), and make
tokens of every piece by itself. To cut takes most of their time, and nearly all pieces have been seen before. So texts
of ASCII are cut here, with Python's own engine, and the tokenizer is asked for the tokens of each piece once.

That this is the same is a matter of how a tokenizer is built: only those are taken whose pattern is one of `PATTERNS`,
in which classes of Unicode stand for letters and digits of ASCII, as long as a text has no others. Each piece is held
against what the pattern makes of it alone, and the first texts are tokenized as a whole, too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

REMEMBERED, LONGEST = 100_000, 32
"""Pieces that are kept in mind, and characters of the longest of them."""
SEEN = 100
"""Texts that are tokenized as a whole, too."""

_GPT_2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_END = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
_CONTRACTED = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
PATTERNS = frozenset(
    {
        _GPT_2,
        rf"{_CONTRACTED}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*{_END}",
        rf"{_CONTRACTED}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*{_END}",
        rf"{_CONTRACTED}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*{_END}",
        rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_CONTRACTED}?|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_CONTRACTED}?"
        rf"|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*{_END}",
    }
)
"""How GPT-2, GPT-4 (and Llama 3), Qwen 2 and 3, Qwen 3.5, and GPT-4o cut texts."""
_ASCII = {"L": "A-Za-z", "N": "0-9", "Lu": "A-Z", "Ll": "a-z"}
"""What classes of Unicode hold of ASCII; the others nothing."""


class Anchor(NamedTuple):
    """A special token in a text."""

    token: int
    """Its number among the tokens."""
    start: int
    """Its first character."""
    end: int
    """The one after its last."""


class Pieces:
    """Makes tokens of texts by their pieces."""

    def __init__(
        self,
        added: dict[str, int],
        special_ids: frozenset[int],
        pattern: re.Pattern[str],
        encode: Callable[[str], list[int]],
    ) -> None:
        """`added` are the tokens at which a text is cut before the `pattern` cuts it. `encode` asks the tokenizer for
        the ids of a text without anything around it.
        """
        self._added, self._special, self._pattern, self._encode = added, special_ids, pattern, encode
        longest_first = sorted(added, key=len, reverse=True)
        self._cuts = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._known: dict[str, list[int]] = {}
        self._seen, self._works = 0, True

    def tokens(self, text: str) -> tuple[list[int], Sequence[Anchor]] | None:
        """The tokens of a text, and the special ones among them; None where its pieces have others than the whole."""
        if not self._works:
            return None
        ids, anchors, done = list[int](), list[Anchor](), 0
        for match in self._cuts.finditer(text):
            start, end = match.span()
            if start > done:
                ids += self._between(text[done:start])
            id_ = self._added[match.group()]
            if id_ in self._special:
                anchors.append(Anchor(len(ids), start, end))
            ids.append(id_)
            done = end
        if done < len(text):
            ids += self._between(text[done:])
        if self._seen < SEEN:
            self._seen += 1
            self._works = ids == self._encode(text)
        return (ids, anchors) if self._works else None

    def _between(self, text: str) -> list[int]:
        """The tokens of a text in which no added token stands."""
        if not text.isascii():
            return self._encode(text)
        pieces = self._pattern.findall(text)
        try:
            return list(chain.from_iterable(map(self._known.__getitem__, pieces)))
        except KeyError:
            return list(chain.from_iterable(map(self._piece, pieces)))

    def _piece(self, piece: str) -> list[int]:
        ids = self._known.get(piece)
        if ids is None:
            ids = self._encode(piece)
            self._works &= self._pattern.findall(piece) == [piece]
            if len(piece) <= LONGEST and len(self._known) < REMEMBERED:
                self._known[piece] = ids
        return ids


def pieces_of(
    tokenizer: PreTrainedTokenizerBase, special_ids: frozenset[int], encode: Callable[[str], list[int]]
) -> Pieces | None:
    """What makes tokens of a tokenizer's texts by their pieces; None for one of which it is not known that it may."""
    backend: Any = tokenizer.backend_tokenizer
    added = tokenizer.added_tokens_decoder
    greedy = any(token.lstrip or token.rstrip or token.single_word or not token.content for token in added.values())
    one_after_another = len({token.normalized for token in added.values()}) > 1
    if greedy or one_after_another or getattr(tokenizer, "split_special_tokens", False):
        return None
    normalizer, pattern = _state(backend.normalizer), _pattern(_state(backend.pre_tokenizer))
    # NFC changes nothing of ASCII, nor of tokens that are looked for before it.
    changes = normalizer and (normalizer.get("type") != "NFC" or any(token.normalized for token in added.values()))
    if changes or pattern is None or getattr(backend.model, "dropout", 1):
        return None
    return Pieces({token.content: id_ for id_, token in added.items()}, special_ids, pattern, encode)


def _state(part: Any) -> dict[str, Any]:
    """How a part of a tokenizer is built; empty where there is none."""
    return {} if part is None else json.loads(part.__getstate__())


def _pattern(cuts: dict[str, Any]) -> re.Pattern[str] | None:
    """What cuts a text of ASCII as the tokenizer does; None where that is not known."""
    *before, bytes_ = cuts.get("pretokenizers", [cuts])
    if bytes_.get("type") != "ByteLevel" or bytes_.get("add_prefix_space"):
        return None
    pattern = _GPT_2 if bytes_.get("use_regex") and not before else None
    if not bytes_.get("use_regex") and [step.get("type") for step in before] == ["Split"]:
        (split,) = before
        plain = split.get("behavior") == "Isolated" and not split.get("invert")
        pattern = split.get("pattern", {}).get("Regex") if plain else None
    if bytes_.get("use_regex") and before == [{"type": "Digits", "individual_digits": True}]:
        return _ascii(_GPT_2.replace(r" ?\p{N}+", r"\s+(?=\p{N})|\p{N}"))  # each digit, and the white space before it
    return _ascii(pattern) if pattern in PATTERNS else None


def _ascii(pattern: str) -> re.Pattern[str]:
    """The pattern with classes of Unicode as ASCII has them."""
    within = re.sub(r"\[[^\]]*\]", lambda found: re.sub(r"\\p\{(\w+)\}", _letters, found.group()), pattern)
    return re.compile(re.sub(r"\\p\{(\w+)\}", lambda found: f"[{_letters(found)}]", within), re.ASCII)


def _letters(found: re.Match[str]) -> str:
    return _ASCII.get(found[1], "")
