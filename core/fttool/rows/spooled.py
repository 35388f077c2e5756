"""Numbers and objects that need next to no memory, however many: added at the end, and read back by their places.

What is beyond a few hundred kilobytes lies in a file without a name, which goes with the process, however that ends.
Forked processes share it.
"""

from __future__ import annotations

import os
import pickle
import tempfile
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar, cast, overload

from fttool.contracts.rows import Example
from fttool.contracts.strategy import Strategy
from fttool.disk import user_folder
from fttool.yielded import misbehaved

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")

IN_MEMORY = 2**18
"""Bytes of a column that are kept in memory."""


class Column(Sequence[int]):
    """Numbers of one kind, by its letter in `array`: a byte and more for each, on disk."""

    def __init__(self, kind: str, numbers: bytes = b"") -> None:
        self.kind = kind
        self._last = array(kind)
        """Those that are not on disk yet."""
        self._size = self._last.itemsize
        self._file: IO[bytes] | None = None
        self._begin = 0
        """Where they begin in the file, in bytes."""
        self._written = 0
        """How many are there."""
        self.add_bytes(numbers)

    def append(self, number: int) -> None:
        """Add one."""
        self._last.append(number)
        self._spill()

    def extend(self, numbers: Iterable[int]) -> None:
        """Add some."""
        self._last.extend(numbers)
        self._spill()

    def add_bytes(self, numbers: bytes) -> None:
        """Add some, as they lie in memory."""
        self._last.frombytes(numbers)
        self._spill()

    def __len__(self) -> int:
        return self._written + len(self._last)

    @overload
    def __getitem__(self, place: int) -> int: ...
    @overload
    def __getitem__(self, place: slice) -> array[int]: ...
    def __getitem__(self, place: int | slice) -> int | array[int]:
        if isinstance(place, slice):
            begin, end, step = place.indices(len(self))
            return self._part(begin, max(begin, end)) if step == 1 else self._part(0, len(self))[place]
        index = place + len(self) if place < 0 else place
        if not 0 <= index < len(self):
            raise IndexError(place)
        return self._part(index, index + 1)[0]

    def __iter__(self) -> Iterator[int]:
        for chunk in self.chunks():
            yield from chunk

    def chunks(self) -> Iterator[array[int]]:
        """All numbers, some thousands at once."""
        step = IN_MEMORY // self._size
        return (self._part(begin, min(begin + step, len(self))) for begin in range(0, len(self), step))

    def mapped(self) -> np.ndarray[Any, Any]:
        """All of them as an array, shape (len,), that is mapped into memory where they are on disk."""
        import numpy as np

        if self._file is None or not len(self):
            return np.frombuffer(self._last, dtype=self.kind)
        self._spill(all_of_them=True)
        return np.memmap(cast("Any", self._file), self.kind, "r", self._begin, (self._written,))

    def save(self, path: Path) -> None:
        """Write them into an `.npy` file; raises `OSError`."""
        from numpy.lib import format as npy

        with path.open("wb") as file:
            header = {"descr": array_type(self.kind), "fortran_order": False, "shape": (len(self),)}
            npy.write_array_header_1_0(file, header)
            for chunk in self.chunks():
                file.write(chunk.tobytes())
            file.flush()
            os.fsync(file.fileno())

    @classmethod
    def saved(cls, path: Path, kind: str) -> Column:
        """Those that were written into a file, which is read as they are asked for.

        Raises:
            OSError, ValueError: for a file that is not there, or holds something else.
        """
        from numpy.lib import format as npy

        column = cls(kind)
        column._file = file = path.open("rb", buffering=0)
        npy.read_magic(file)
        shape, _, dtype = npy.read_array_header_1_0(file)
        if dtype.str != array_type(kind) or len(shape) != 1:
            raise ValueError(f"{path} does not hold a column of numbers of this kind")
        column._begin, column._written = file.tell(), shape[0]
        return column

    def __del__(self) -> None:
        file: IO[bytes] | None = getattr(self, "_file", None)
        if file is not None:
            file.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """For a process that is not forked: all of it is copied."""
        return Column, (self.kind, self[:].tobytes())

    def _part(self, begin: int, end: int) -> array[int]:
        if begin >= self._written:
            return self._last[begin - self._written : end - self._written]
        part = array(self.kind)
        part.frombytes(self._read(begin, min(end, self._written)))
        return part + self._last[: end - self._written] if end > self._written else part

    def _read(self, begin: int, end: int) -> bytes:
        assert self._file is not None
        found, place, end = b"", self._begin + begin * self._size, self._begin + end * self._size
        while place < end:  # 2 GiB at most come at once
            more = _read_at(self._file, end - place, place)
            if not more:
                raise OSError(f"a file of prepared rows ends after {place:,} of {end:,} bytes")
            found, place = found + more, place + len(more)
        return found

    def _spill(self, *, all_of_them: bool = False) -> None:
        """Put the last numbers into the file, where they are many."""
        if not self._last or (len(self._last) * self._size < IN_MEMORY and not all_of_them):
            return
        if self._file is None:
            self._file = scratch_file()
        self._file.seek(0, os.SEEK_END)
        self._file.write(self._last)
        self._file.flush()
        self._written += len(self._last)
        del self._last[:]


class Spool(Sequence[T]):
    """Objects, each as the bytes that `dump` makes of it and `load` reads: pickled, where nothing else is said.

    What is read back is equal to what was added, and another object each time.
    """

    def __init__(
        self,
        items: Iterable[T] = (),
        *,
        dump: Callable[[T], bytes] = pickle.dumps,
        load: Callable[[bytes], T] = pickle.loads,
    ) -> None:
        self._dump, self._load = dump, load
        self._bytes, self._ends = Column("B"), Column("q")
        self.extend(items)

    def append(self, item: T) -> None:
        """Add one."""
        self._bytes.add_bytes(self._dump(item))
        self._ends.append(len(self._bytes))

    def extend(self, items: Iterable[T]) -> None:
        """Add some, one after another."""
        for item in items:
            self.append(item)

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> list[T]: ...
    def __getitem__(self, place: int | slice) -> T | list[T]:
        if isinstance(place, slice):
            return [self[index] for index in range(*place.indices(len(self)))]
        index = place + len(self) if place < 0 else place
        if index < 0:
            raise IndexError(place)
        end = self._ends[index]
        begin = self._ends[index - 1] if index else 0
        return self._load(self._bytes[begin:end].tobytes())

    def __iter__(self) -> Iterator[T]:
        begin = 0
        for end in self._ends:
            yield self._load(self._bytes[begin:end].tobytes())
            begin = end

    def save(self, path: Path) -> None:
        """Write all of it into two files, whose names begin with that of `path`; raises `OSError`."""
        self._bytes.save(path.with_name(f"{path.name}.bytes.npy"))
        self._ends.save(path.with_name(f"{path.name}.ends.npy"))

    def open_saved(self, path: Path) -> None:
        """Be those that were written there; raises what `Column.saved` does."""
        self._bytes = Column.saved(path.with_name(f"{path.name}.bytes.npy"), "B")
        self._ends = Column.saved(path.with_name(f"{path.name}.ends.npy"), "q")


def keep_example(strategy: Strategy, example: Example, into: Spool[Example]) -> None:
    """Add a row that a strategy has made; `PluginError` for one that holds what cannot be written to disk."""
    try:
        into.append(example)
    except (pickle.PicklingError, TypeError, AttributeError) as fault:  # which of them hangs on the object
        raise misbehaved(strategy, f"gave a row that cannot be written to disk ({example.origin}): {fault}") from fault


class Joined(Sequence[T]):
    """Several sequences one after another, without a copy of them."""

    def __init__(self, parts: Iterable[Sequence[T]] = ()) -> None:
        self.parts = list(parts)
        self.ends = list(accumulate(map(len, self.parts)))

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> list[T]: ...
    def __getitem__(self, place: int | slice) -> T | list[T]:
        if isinstance(place, slice):
            return [self[index] for index in range(*place.indices(len(self)))]
        part, index = self.place(place)
        return self.parts[part][index]

    def __iter__(self) -> Iterator[T]:
        return chain.from_iterable(self.parts)

    def place(self, index: int) -> tuple[int, int]:
        """Which part an item is of, and its index there; raises `IndexError`."""
        forward = index + len(self) if index < 0 else index
        if not 0 <= forward < len(self):
            raise IndexError(index)
        part = bisect_right(self.ends, forward)
        return part, forward - (self.ends[part - 1] if part else 0)


def texts(items: Iterable[str] = ()) -> Spool[str]:
    """Texts, such as paths, in which any character may stand."""
    return Spool(items, dump=_to_bytes, load=_to_text)


def _to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _to_text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def array_type(kind: str) -> str:
    """NumPy's name of a kind of `array`, the order of bytes with it: `<i4`."""
    import numpy as np

    return np.dtype(kind).str


def _read_at(file: IO[bytes], count: int, place: int) -> bytes:
    """Read without moving the place at which other processes that have the file open read; Windows has no forks."""
    if hasattr(os, "pread"):
        return os.pread(file.fileno(), count, place)
    file.seek(place)
    return file.read(count)


def scratch_file() -> IO[bytes]:
    """A file without a name: in the user's cache, else among temporary files, which on some systems lie in memory.

    Raises:
        OSError: where neither can be written.
    """
    above = user_folder("XDG_CACHE_HOME", ".cache")
    if above is not None:
        try:
            above.mkdir(parents=True, exist_ok=True)
            return tempfile.TemporaryFile(dir=above)
        except OSError:  # read-only, or of another user
            pass
    return tempfile.TemporaryFile()
