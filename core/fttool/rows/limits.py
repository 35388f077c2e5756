"""What one render of a chat template may take: so much computing time, and so much memory beyond what the process has.

A chat template is a program that came with a model. jinja2's sandbox keeps it from files and from Python's inside, but
not from running for ever, nor from filling the memory. Both limits are generous a thousand times over for a template
that means well.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

from fttool.errors import ModelError, Problem

SECONDS = 5.0
"""Computing time of one render, in seconds; most take less than a thousandth."""
MEMORY = 2**30
"""Bytes that one render may take."""

PAGES = "/proc/self/statm"


class _OutOfTimeError(BaseException):
    """Raised in a template; no `except Exception` of jinja2 or transformers may swallow it."""


def refusal(what: str) -> ModelError:
    """The error of a chat template that does what it must not; `what` goes on after it."""
    hint = 'choose another one: model.chat_template = "chatml", or a Jinja file'
    return ModelError(Problem(f"the chat template {what}", hint=hint, key=("model", "chat_template")))


class template_limits:  # noqa: N801 (used as a function in `with`; a generator would cost as much as a short render)
    """Around a render by other ways than `chat_text`: what takes too long or too much memory becomes a `ModelError`."""

    def __enter__(self) -> None:
        self._memory = _limit_memory()
        self._running = True
        # In the main thread alone, which alone hears signals; and not on Windows, which has none for this.
        self._timed = sys.platform != "win32" and threading.current_thread() is threading.main_thread()
        if self._timed:
            self._before = signal.signal(signal.SIGVTALRM, self._over)
            # Again and again: jinja2 computes constants before it renders, and what is raised there could be lost.
            signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS, 0.2)

    def _over(self, number: int, frame: Any) -> None:
        if self._running and frame.f_code.co_filename != __file__:
            raise _OutOfTimeError

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        self._running = False
        if self._timed:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.signal(signal.SIGVTALRM, self._before)
        if self._memory:
            _set_limit(self._memory)
        if kind and issubclass(kind, _OutOfTimeError):
            what = f"does not end: {SECONDS:g} seconds of computing were not enough for one conversation"
            raise refusal(what) from None
        if kind and issubclass(kind, MemoryError):
            raise refusal(f"takes over {MEMORY // 2**20:,} MiB of memory for one conversation") from None


def _limit_memory() -> tuple[int, int] | None:
    """Let the process have so much more address space than it has, and return what it might have before; None where the
    system does not tell what it has (all but Linux).
    """
    has = _address_space()
    if has is None:
        return None
    import resource

    soft, hard = before = resource.getrlimit(resource.RLIMIT_AS)
    wanted = has + MEMORY
    _set_limit((wanted if soft == resource.RLIM_INFINITY else min(wanted, soft), hard))
    return before


def _set_limit(limit: tuple[int, int]) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, limit)


_opened: dict[int, int] = {}
"""This process → its file of `PAGES`, which stays open: it is read for every row."""


def _address_space() -> int | None:
    """Bytes of address space that this process has, where the system tells."""
    process = os.getpid()
    try:
        if process not in _opened:
            _opened.clear()  # a fork has those of its parent
            _opened[process] = os.open(PAGES, os.O_RDONLY | os.O_CLOEXEC)
        return int(os.pread(_opened[process], 64, 0).split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, AttributeError):  # there is no such file, or no such call
        return None
