"""A text in tokens, and the characters each stands for.

Offsets of fast tokenizers differ in whose the white space is: byte-level ones leave the space out of " word", and all
of a token that is only a space; special tokens may swallow what is around them. Here a token stands for its ink, the
characters without white space around them, and only a token without ink stands for white space.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

from fttool_plugins.masking.pieces import pieces_of

if TYPE_CHECKING:
    from tokenizers import Encoding
    from transformers import PreTrainedTokenizerBase

    from fttool_plugins.masking.pieces import Anchor, Pieces


NEAR = 16
"""Characters of a prompt's end that are looked at for tokens that grow together with whatever follows."""
REMEMBERED = 10_000
"""Ends of prompts that are kept in mind."""

_FILLS = re.compile(r"\W*(?:pad|padding|unk|mask|unused_?\d*)\W*", re.IGNORECASE)
"""How such tokens are written where the tokenizer does not say what they are for."""

Offsets = Sequence[tuple[int, int]]
"""The first character of each token and the one after its last, as the tokenizer has them."""


class Tokens:
    """A tokenized text."""

    def __init__(
        self,
        text: str,
        ids: list[int],
        special_ids: frozenset[int],
        offsets: Offsets = (),
        encode: Callable[[], Encoding] | None = None,
        anchors: Sequence[Anchor] | None = None,
    ) -> None:
        """`offsets` are those that the tokenizer has given. With `encode`, they are made once they are asked for: most
        texts do with those of a few tokens, and with `anchors`, all of its special tokens, those of a byte-level
        tokenizer with none.
        """
        self.text, self.ids, self.special_ids = text, ids, special_ids
        self._offsets, self._encode, self._anchors = offsets, encode, anchors
        self.begins: dict[int, int] = {}
        """Characters before which the text has the tokens that it has alone → the first token after them."""

    @cached_property
    def _encoding(self) -> Encoding | None:
        return self._encode() if self._encode else None

    @cached_property
    def offsets(self) -> Offsets:
        """The first character of each token and the one after its last, as the tokenizer has them."""
        return self._offsets if self._encoding is None else self._encoding.offsets

    @cached_property
    def reach(self) -> list[int]:
        """The number of characters that the tokens up to each one have used up; ascends."""
        reach = [end for _, end in self.offsets]
        return reach if reach == sorted(reach) else list(accumulate(reach, max))

    def special_before(self, place: int) -> tuple[int, int]:
        """The last special token that ends before `place`, and its first character; no token reaches over it.

        (0, 0) where there is none.
        """
        if self._anchors is not None:
            anchor = next((anchor for anchor in reversed(self._anchors) if anchor.end <= place), None)
            return (anchor.token, anchor.start) if anchor and anchor.start else (0, 0)
        ids, first = self.ids, self._reaching(place)
        while first > 0 and (first == len(ids) or not self.is_special(first) or self._stretch(first)[1] > place):
            first -= 1
        start = self._stretch(first)[0] if self.is_special(first) else 0
        return (first, start) if start else (0, 0)

    def _reaching(self, place: int) -> int:
        """The first token that ends at `place` or behind it; the number of tokens where none does."""
        token = self._encoding.char_to_token(place - 1) if self._encoding else None
        return bisect_left(self.reach, place) if token is None else token

    def _stretch(self, token: int) -> tuple[int, int]:
        """The first character of a token, and the one after the last that it and those before have used up."""
        found = self._encoding.token_to_chars(token) if self._encoding else None
        return (self.offsets[token][0], self.reach[token]) if found is None else found

    def turn(self, start: int, end: int) -> range | None:
        """The tokens of the characters `start` to `end` where both are borders of tokens, the first of them has ink and
        the last is special; None where a closer look is needed to say so.
        """
        first = self.begins.get(start)
        if first is None or self._encode is None or end > len(self.text):
            return None
        if self._anchors is not None:
            last = next((anchor.token for anchor in self._anchors if anchor.end == end), None)
            has_ink = not self.text[start].isspace()
        else:
            last = self._encoding.char_to_token(end - 1) if self._encoding else None
            has_ink = bool(self.text[slice(*self._stretch(first))].strip())
        if last is None or last <= first or self.is_special(first) or not self.is_special(last) or not has_ink:
            return None
        return range(first, last + 1)

    def place(self, token: int) -> tuple[int, int]:
        """The characters that a token stands for, from the first to the one after the last: its ink.

        Both ascend from token to token.
        """
        offset, end = self.offsets[token]
        done = self.reach[token - 1] if token else 0
        # The pieces of one character share its offsets, so one may begin before what is done; what no offset holds
        # belongs to the token after it.
        start, end = min(offset, done) if end >= done else done, self.reach[token]
        piece = self.text[start:end]
        ink = piece.strip()
        if ink:
            start += len(piece) - len(piece.lstrip())
            end = start + len(ink)
        return start, end

    def within(self, start: int, end: int) -> range:
        """The tokens that hold one of the characters `start` to `end`, or stand among them and hold none."""
        first, last = bisect_left(self.reach, start), bisect_left(self.reach, end)
        while last < len(self.ids) and self.place(last)[0] < end:
            last += 1
        while first < last and self.place(first)[1] <= start and self.place(first)[0] != start:
            first += 1
        return range(first, last)

    def is_special(self, token: int) -> bool:
        """True for what is not text: BOS, EOS, the ends of turns and their like."""
        return self.ids[token] in self.special_ids

    def is_blank(self, token: int) -> bool:
        """True for white space."""
        return not self.is_special(token) and not self.text[slice(*self.place(token))].strip()

    def are_frame(self, tokens: Iterable[int]) -> bool:
        """True where no token is text: all are special or blank, or there are none."""
        return all(self.is_special(token) or self.is_blank(token) for token in tokens)


def special_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The ids that are not text; added tokens like `<think>` are text unless they are marked special."""
    added = tokenizer.added_tokens_decoder.items()
    return frozenset(tokenizer.all_special_ids) | {index for index, token in added if token.special}


def special_texts(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """How the special tokens are written."""
    return [text for text in tokenizer.convert_ids_to_tokens(sorted(special_ids(tokenizer))) if text]


def special_pattern(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str]:
    """What finds special tokens in a text, the longest first."""
    texts = sorted(special_texts(tokenizer), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, texts)) or r"(?!)")


def fillers(tokenizer: PreTrainedTokenizerBase) -> frozenset[str]:
    """The special tokens that stand for nothing that is said: the beginning of a text, padding, unknown words."""
    named: Any = (tokenizer.bos_token, tokenizer.pad_token, tokenizer.unk_token, tokenizer.cls_token)
    known = {str(token) for token in (*named, tokenizer.mask_token) if token}
    return frozenset(known | {text for text in special_texts(tokenizer) if _FILLS.fullmatch(text)})


def _only_hands_on(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a tokenizer is of a class that has no way of its own to encode a text."""
    from transformers import PreTrainedTokenizerFast

    kind = type(tokenizer)
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        return False
    bases = kind.__mro__[: kind.__mro__.index(PreTrainedTokenizerFast)]
    return not any(name == "__call__" or name.endswith("encode_plus") for base in bases for name in vars(base))


class Tokenization:
    """Makes tokens of rendered conversations, as inference would make them of each prompt."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._special = special_ids(tokenizer)
        self._endings: dict[str, tuple[list[int], Offsets]] = {}
        """The end of a prompt, from its last special token on → its tokens."""
        self._only_hands_on = _only_hands_on(tokenizer)
        self._pieces: Pieces | None = None
        if self._only_hands_on:
            self._pieces = pieces_of(tokenizer, self._special, lambda text: self._encoding(text).ids)
        self._growing: dict[str, bool] = {}
        """The last characters of a prompt → whether the text must be cut after them."""

    def tokens(self, text: str, begins: Sequence[int] = ()) -> Tokens:
        """The tokens of a text as it stands: nothing is added in front or after, nothing is cut off.

        `begins` are the characters at which the model begins to write. Inference makes tokens of what stands before
        alone, so where a token of the whole text reaches over such a border ("ASSISTANT: " + "Hello"), or those in
        front of it are others than inference has, the text is cut there and its parts are tokenized apart.

        Raises `ValueError` for a slow tokenizer, which does not say which characters a token stands for.
        """
        if not self._tokenizer.is_fast:
            raise ValueError(
                f"{type(self._tokenizer).__name__} is a slow tokenizer: it does not say which characters a token "
                "stands for; use the model's fast tokenizer (tokenizer.json)"
            )
        borders = sorted(begin for begin in begins if 0 < begin < len(text))
        always = [border for border in borders if self._grows(text[max(0, border - NEAR) : border])]
        uncut = self._in_parts(text, always)
        cuts = [border for border in borders if border not in always and not self._is_border(border, uncut)]
        return self._cut(uncut, cuts) if cuts else uncut

    def _grows(self, ending: str) -> bool:
        """True where a prompt that ends so has other tokens at its end as soon as a word follows, whichever it is."""
        if ending not in self._growing:
            if len(self._growing) >= REMEMBERED:
                self._growing.clear()
            alone = self._encode(ending)[0]
            self._growing[ending] = self._encode(ending + "x")[0][: len(alone)] != alone
        return self._growing[ending]

    def _in_parts(self, text: str, cuts: Sequence[int]) -> Tokens:
        """The tokens of a text whose parts are tokenized apart, each as it is read after the one before."""
        if not cuts:
            return self._whole(text)
        first, *others = [*cuts, len(text)]
        ids, offsets = self._encode(text[:first])
        for start, end in pairwise([first, *others]):
            part, places = self._behind(text[start:end])
            ids += part
            offsets += [(begin + start, end + start) for begin, end in places]
        return Tokens(text, ids, self._special, offsets)

    def _is_border(self, place: int, uncut: Tokens) -> bool:
        """True where the text before `place` has the same tokens alone."""
        first, start = uncut.special_before(place)
        alone = self._ending(uncut.text[start:place])[0]
        if uncut.ids[first : first + len(alone)] != alone:
            return False
        uncut.begins[place] = first + len(alone)
        return True

    def _ending(self, ending: str) -> tuple[list[int], Offsets]:
        """The tokens of the end of a prompt."""
        if ending not in self._endings:
            if (
                len(self._endings) >= REMEMBERED or len(ending) > 200
            ):  # headers are short and few; whole prompts are not
                self._endings.clear()
            self._endings[ending] = self._encode(ending)
        return self._endings[ending]

    def _cut(self, uncut: Tokens, cuts: Sequence[int]) -> Tokens:
        """The tokens with those around each cut made anew: of the end of the prompt alone, and of what stands behind.

        That reaches from the special token in front of a cut to the next one after it, or to the next cut.
        """
        text, ids, offsets = uncut.text, list[int](), list[tuple[int, int]]()
        taken, done = 0, 0  # tokens of the whole and characters that have their tokens

        def add(piece: tuple[Sequence[int], Offsets], shift: int = 0) -> None:
            ids.extend(piece[0])
            offsets.extend((begin + shift, end + shift) for begin, end in piece[1])

        for cut, following in pairwise([*cuts, len(text)]):
            first, start = uncut.special_before(cut)
            if start >= done:
                add((uncut.ids[taken:first], uncut.offsets[taken:first]))
                add(self._ending(text[start:cut]), start)
            elif done < cut:  # within the text of a special token
                add(self._behind(text[done:cut]), done)
            behind = next(self._specials(uncut, cut), len(uncut.ids))
            taken, done = behind, min(uncut.offsets[behind][0] if behind < len(uncut.ids) else len(text), following)
            add(self._behind(text[cut:done]), cut)
        add((uncut.ids[taken:], uncut.offsets[taken:]))
        return Tokens(text, ids, self._special, offsets)

    def _specials(self, uncut: Tokens, place: int) -> Iterator[int]:
        """The special tokens that begin at a character or after it."""
        tokens = range(bisect_left(uncut.reach, place), len(uncut.ids))
        return (token for token in tokens if uncut.ids[token] in self._special and uncut.offsets[token][0] >= place)

    def _behind(self, text: str) -> tuple[list[int], Offsets]:
        """The tokens of a text as it is read after others."""
        leading = self._ending("\n")[0]  # SentencePiece puts a space before a text, but not after a line break
        ids, offsets = self._encode("\n" + text)
        if ids[: len(leading)] != leading:
            return self._encode(text)
        rest = offsets[len(leading) :]
        return ids[len(leading) :], [(max(0, begin - 1), max(0, end - 1)) for begin, end in rest]

    def _whole(self, text: str) -> Tokens:
        found = self._pieces.tokens(text) if self._pieces else None
        if found:
            return Tokens(text, found[0], self._special, (), partial(self._encoding, text), found[1])
        if not self._only_hands_on:
            ids, offsets = self._encode(text)
            return Tokens(text, ids, self._special, offsets)
        encoding = self._encoding(text)
        return Tokens(text, encoding.ids, self._special, (), lambda: encoding)

    def _encoding(self, text: str) -> Encoding:
        """What the tokenizer's library makes of a text, for a tokenizer that only hands it on: to call the tokenizer
        costs a fifth more.
        """
        backend: Any = self._tokenizer.backend_tokenizer
        splits: Any = getattr(self._tokenizer, "split_special_tokens", False)
        if backend.truncation is not None or backend.padding is not None or backend.encode_special_tokens != splits:
            self._encode("")  # sets them
        return backend.encode(text, add_special_tokens=False)

    def _encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        encoding = self._tokenizer(
            text,
            add_special_tokens=False,
            truncation=False,
            return_offsets_mapping=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,  # no warning about the model's longest sequence: batching cuts
        )
        return list(encoding["input_ids"]), list(encoding["offset_mapping"])
