"""Work on rows spread over the machine's processors, with the same result in the same order as without."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import signal
import sys
import warnings
from collections.abc import Callable, Generator, Sequence
from multiprocessing.connection import Connection
from typing import Any, TypeVar, cast

Item = TypeVar("Item")
Result = TypeVar("Result")

CHUNK = 64
"""Rows that go to a worker at once."""
LEAST = 1_000
"""Rows below which workers are not worth their start."""


def processors() -> int:
    """Processors that this process may use, shared with the other processes of a run on this machine."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, here // max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


def mapped(function: Callable[[Item], Result], items: Sequence[Item], workers: int | None = None) -> Generator[Result]:
    """`function` of each item, in order; `workers` processes share them, by default one for each processor.

    A worker is a fork of this process: function and items need not be pickled, only results. Where one fails, the item
    is done here, so that whatever is raised is raised here. Without fork (Windows, and macOS, whose libraries do not
    survive it) all is done here.
    """
    count = processors() if workers is None else workers
    if count < 2 or (workers is None and len(items) < LEAST) or sys.platform in ("win32", "darwin"):
        yield from map(function, items)
        return
    starts = range(0, len(items), CHUNK)
    count = min(count, len(starts))
    pool: list[_Worker] = []
    try:
        for number in range(count):
            pool.append(_Worker(function, items, starts[number::count], [worker.results for worker in pool]))
        for number, start in enumerate(starts):
            places = range(start, min(start + CHUNK, len(items)))
            results = pool[number % count].next()
            done = results if results is not None else [None] * len(places)
            for place, result in zip(places, done, strict=True):
                yield function(items[place]) if result is None else result[0]
    finally:
        for worker in pool:
            worker.end()


class _Worker:
    """A process that works on some of the chunks, one after another; it waits while its results are not taken."""

    def __init__(
        self,
        function: Callable[[Any], Any],
        items: Sequence[Any],
        starts: Sequence[int],
        others: Sequence[Connection],
    ) -> None:
        fork = multiprocessing.get_context("fork")
        self.results, results = fork.Pipe(duplex=False)
        unread = [*others, self.results]
        self._process = fork.Process(target=_work, args=(function, items, starts, results, unread), daemon=True)
        with warnings.catch_warnings():  # of threads that a fork leaves behind: no lock of theirs is needed here
            warnings.simplefilter("ignore", DeprecationWarning)
            self._process.start()
        results.close()

    def next(self) -> list[Any] | None:
        """Of each item of the next chunk (its result,), or None where it failed; None where the process is gone."""
        try:
            return self.results.recv()
        except (EOFError, OSError):
            return None

    def end(self) -> None:
        """End the process, whatever it does."""
        self.results.close()
        self._process.kill()
        self._process.join()


def _work(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    starts: Sequence[int],
    results: Connection,
    unread: Sequence[Connection],
) -> None:
    for connection in unread:  # or nobody would notice that the parent, which alone reads them, was killed
        connection.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; whoever started us ends us
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # its threads did not come along
    gc.freeze()  # or to look through what is the parent's would copy all of it
    try:
        for start in starts:
            results.send_bytes(pickle.dumps([_done(function, item) for item in items[start : start + CHUNK]]))
    except OSError:  # nobody reads any more
        pass
    os._exit(0)  # nothing of what the parent would do at its end is ours


def _done(function: Callable[[Any], Any], item: Any) -> tuple[Any] | None:
    try:
        result = function(item)
        results: list[Any] = cast("list[Any]", result) if isinstance(result, list) else [result]
        return None if any(isinstance(each, Exception) for each in results) else (result,)
    except Exception:  # whatever it is, it is raised again where people can see it
        return None
