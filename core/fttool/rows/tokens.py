"""Rows of tokens, in columns."""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from fttool.contracts.rows import Encoded
from fttool.rows.spooled import Column, Joined, Spool, texts

if TYPE_CHECKING:
    from datasets import Dataset

Classes = tuple[str, ...] | None
NUMBERS = {"tokens": "i", "learned": "b", "ends": "q", "cut": "i", "token_types": "b", "words": "i"}
"""Columns of `TokenRows`, with the kind of their numbers."""


class TokenRows(Sequence[Encoded]):
    """Rows of tokens in columns, on disk where they are many: 5 bytes per token, and nothing for loader processes to
    copy.

    A row comes back as `Encoded` with labels of −100 where it is not learned.
    """

    def __init__(self) -> None:
        self.tokens = Column("i")
        """The tokens of all rows, one row after another."""
        self.learned = Column("b")
        """Of each token 1 where it is learned, and 0 elsewhere."""
        self.ends = Column("q")
        """Where each row ends in `tokens`, exclusive."""
        self.cut = Column("i")
        """Of each row how many tokens it has lost at `max_length`."""
        self.origins = texts()
        """`file:line` of each row."""
        self.classes: Spool[Classes] = Spool(dump=_classes_to_bytes, load=_bytes_to_classes)
        """Of each row."""
        self.token_types = Column("b")
        """As long as the tokens of the rows up to the last one that has any."""
        self.words = Column("i")
        """Of each token the number of its word, −1 for none; as long as `token_types` is, where words have classes."""
        self.remarks = Counter[str]()
        """What is to be known of the rows, with the number of them."""

    def append(self, row: Encoded, origin: str, cut: int = 0) -> None:
        """Add one row that has lost so many tokens; `labels` must be the token's own id or −100."""
        if row.token_types is not None:
            self.token_types.extend(bytes(len(self.tokens) - len(self.token_types)))
            self.token_types.extend(row.token_types)
        if row.words is not None:
            self.words.extend([-1] * (len(self.tokens) - len(self.words)))
            self.words.extend(row.words)
        self.classes.append(row.classes)
        self.tokens.extend(row.input_ids)
        self.learned.extend([label != -100 for label in row.labels])
        self.ends.append(len(self.tokens))
        self.cut.append(cut)
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
    def lengths(self) -> Sequence[int]:
        """Tokens of each row."""
        return array("i", (end - start for start, end in zip(chain((0,), self.ends), self.ends, strict=False)))

    @property
    def label_tokens(self) -> int:
        """Tokens that are learned, over all rows."""
        return sum(chunk.count(1) for chunk in self.learned.chunks())

    @property
    def class_counts(self) -> dict[str, int]:
        """Rows, or words, of each class; empty where there are no classes."""
        return dict(Counter(name for classes in self.classes for name in classes or ()))

    def as_dataset(self) -> Dataset:
        """The tokens as a `datasets.Dataset` over the same memory or file, which trl's trainer asks for."""
        import numpy as np
        import pyarrow as pa
        from datasets import Dataset

        offsets = np.concatenate([[0], self.ends.mapped()]).astype(np.int64)
        column = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(self.tokens.mapped()))
        # With a fingerprint, which datasets would else compute from all of it.
        return Dataset(pa.table({"input_ids": column}), fingerprint=f"{id(self):x}")


def _classes_to_bytes(classes: Classes) -> bytes:
    return b"" if classes is None else json.dumps(classes).encode()


def _bytes_to_classes(data: bytes) -> Classes:
    return tuple(json.loads(data)) if data else None


class JoinedRows(Joined[Encoded]):
    """Several `TokenRows` one after another: row i of the second has index len(first) + i."""

    def __init__(self, parts: Iterable[TokenRows] = ()) -> None:
        self.datasets = list(parts)
        super().__init__(self.datasets)
        self.lengths: Sequence[int] = array("i", chain.from_iterable(part.lengths for part in self.datasets))
        """Tokens of each row."""

    @property
    def remarks(self) -> dict[str, int]:
        """What is to be known of the rows, with the number of them."""
        return dict(sum((part.remarks for part in self.datasets), Counter[str]()))

    def origin(self, index: int) -> str:
        """`file:line` of a row."""
        part, row = self.place(index)
        return self.datasets[part].origins[row]
