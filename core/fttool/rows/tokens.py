"""Rows of tokens, in flat arrays."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, TypeAlias

from fttool.contracts.rows import Encoded

if TYPE_CHECKING:
    from datasets import Dataset


Flat: TypeAlias = Any
"""`array.array` while rows are added; NumPy's over a file in memory for rows that were kept (`kept.py`)."""


class TokenRows(Sequence[Encoded]):
    """Rows of tokens in flat arrays: 5 bytes per token, and nothing for loader processes to copy.

    A row comes back as `Encoded` with labels of −100 where it is not learned.
    """

    def __init__(self) -> None:
        self.tokens: Flat = array("i")
        """The tokens of all rows, one row after another."""
        self.learned: Flat = array("b")
        """Of each token 1 where it is learned, and 0 elsewhere."""
        self.ends: Flat = array("q")
        """Where each row ends in `tokens`, exclusive."""
        self.origins: list[str] = []
        """`file:line` of each row."""
        self.classes: list[tuple[str, ...] | None] = []
        """Of each row; equal ones are one object."""
        self.token_types: Flat = array("b")
        """As long as the tokens of the rows up to the last one that has any."""
        self.words: Flat = array("i")
        """Of each token the number of its word, −1 for none; as long as `token_types` is, where words have classes."""
        self.remarks = Counter[str]()
        """What is to be known of the rows, with the number of them."""
        self._same: dict[tuple[str, ...] | None, tuple[str, ...] | None] = {}

    def append(self, row: Encoded, origin: str) -> None:
        """Add one row; `labels` must be the token's own id or −100."""
        if row.token_types is not None:
            self.token_types.frombytes(bytes(len(self.tokens) - len(self.token_types)))
            self.token_types.extend(row.token_types)
        if row.words is not None:
            self.words.extend([-1] * (len(self.tokens) - len(self.words)))
            self.words.extend(row.words)
        self.classes.append(self._same.setdefault(row.classes, row.classes))
        self.tokens.extend(row.input_ids)
        self.learned.extend([label != -100 for label in row.labels])
        self.ends.append(len(self.tokens))
        self.origins.append(origin)
        self.remarks.update(set(row.remarks))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = slice(self.ends[index - 1] if index > 0 else 0, self.ends[index])
        tokens, learned = self.tokens[place].tolist(), self.learned[place].tolist()
        types, words = self.token_types[place].tolist(), self.words[place].tolist()
        return Encoded(
            tokens,
            [token if yes else -100 for token, yes in zip(tokens, learned, strict=True)],
            classes=self.classes[index],
            token_types=types if any(types) else None,
            words=words or None,
        )

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row."""
        ends = self.ends.tolist()
        return [end - start for start, end in zip([0, *ends], ends, strict=False)]

    @property
    def label_tokens(self) -> int:
        """Tokens that are learned, over all rows."""
        return self.learned.tobytes().count(1)

    @property
    def class_counts(self) -> dict[str, int]:
        """Rows, or words, of each class; empty where there are no classes."""
        return dict(Counter(name for classes in self.classes for name in classes or ()))

    def as_dataset(self) -> Dataset:
        """The tokens as a `datasets.Dataset` over the same memory, which trl's trainer asks for."""
        import numpy as np
        import pyarrow as pa
        from datasets import Dataset

        offsets = np.concatenate([[0], np.asarray(self.ends)]).astype(np.int64)
        column = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(np.asarray(self.tokens, dtype=np.int32)))
        return Dataset(pa.table({"input_ids": column}))


class JoinedRows(Sequence[Encoded]):
    """Several `TokenRows` one after another, without a copy of them: row i of the second has index len(first) + i."""

    def __init__(self, parts: Iterable[TokenRows] = ()) -> None:
        self.parts = list(parts)
        self.ends = list(accumulate(map(len, self.parts)))
        self.lengths = [length for part in self.parts for length in part.lengths]
        """Tokens of each row."""

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        part, row = self._place(index)
        return part[row]

    @property
    def remarks(self) -> dict[str, int]:
        """What is to be known of the rows, with the number of them."""
        return dict(sum((part.remarks for part in self.parts), Counter[str]()))

    def origin(self, index: int) -> str:
        """`file:line` of a row."""
        part, row = self._place(index)
        return part.origins[row]

    def _place(self, index: int) -> tuple[TokenRows, int]:
        which = bisect_right(self.ends, index)
        return self.parts[which], index - (self.ends[which - 1] if which else 0)
