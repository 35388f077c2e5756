"""Conversations written by a chat template: the one door to it, with limits of time, of memory and of what comes out.

A chat template is a program that came with a model. jinja2's sandbox keeps it from files and from Python's inside, but
not from running for ever, nor from filling the memory. So each render gets so much computing time, and so much memory
beyond what the process has; both are generous a thousand times over for a template that means well.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fttool.contracts.rows import Example
from fttool.errors import ModelError, Problem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SECONDS = 5.0
"""Computing time of one render, in seconds; most take less than a thousandth."""
MEMORY = 2**30
"""Bytes that one render may take."""
CHARACTERS, TIMES = 2**20, 32
"""A render of more characters than this, and of so many times those of the conversation, is an error."""

PAGES = "/proc/self/statm"
AROUND = (__file__, contextmanager.__code__.co_filename)
"""Where the code around a render is: what is raised between its end and that of its limits, nobody would catch."""


class _OutOfTimeError(BaseException):
    """Raised in a template; no `except Exception` of jinja2 or transformers may swallow it."""


def chat_text(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Mapping[str, Any]], **variables: Any) -> str:
    """The conversation as the chat template writes it.

    `variables` go to `apply_chat_template`: `tools`, `add_generation_prompt`, `chat_template`, and all else to the
    template. Raises `ModelError` where the template does not end, or takes or writes too much; whatever else it raises
    comes through.
    """
    turns = [dict(message) for message in messages]
    with template_limits():
        text = str(tokenizer.apply_chat_template(turns, tokenize=False, **variables))
    if len(text) > CHARACTERS:
        template = {name: value for name, value in variables.items() if name != "chat_template"}
        given = len(json.dumps([turns, template], default=str))
        if len(text) > TIMES * given:
            raise _refusal(f"writes {len(text):,} characters for a conversation of {given:,}")
    return text


def chat_ids(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Mapping[str, Any]], **variables: Any) -> list[int]:
    """The tokens of `chat_text`; special tokens are those that the template writes."""
    text = chat_text(tokenizer, messages, **variables)
    ids: Any = tokenizer(text, add_special_tokens=False)["input_ids"]
    return list(ids)


def shared_variables(examples: Iterable[Example]) -> dict[str, Any]:
    """The variables for the chat template that all conversations have with one value; tools and documents are apart."""
    shared: dict[str, Any] | None = None
    for example in examples:
        if example.messages:
            own = {name: value for name, value in example.template.items() if name not in ("tools", "documents")}
            shared = own if shared is None else {name: shared[name] for name in shared if own.get(name) == shared[name]}
            if not shared:
                break
    return shared or {}


def _refusal(what: str) -> ModelError:
    hint = 'choose another one: model.chat_template = "chatml", or a Jinja file'
    return ModelError(Problem(f"the chat template {what}", hint=hint, key=("model", "chat_template")))


@contextmanager
def template_limits() -> Generator[None]:
    """Around a render by other ways than `chat_text`: what takes too long or too much memory becomes a `ModelError`."""
    try:
        with _limited_memory(), _limited_time():
            yield
    except _OutOfTimeError:
        raise _refusal(f"does not end: {SECONDS:g} seconds of computing were not enough for one conversation") from None
    except MemoryError:
        raise _refusal(f"takes over {MEMORY // 2**20:,} MiB of memory for one conversation") from None


@contextmanager
def _limited_time() -> Generator[None]:
    """Only in the main thread, which alone hears signals; and not on Windows, which has none for this."""
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        yield
        return
    running = True

    def over(number: int, frame: Any) -> None:
        if running and frame.f_code.co_filename not in AROUND:
            raise _OutOfTimeError

    before = signal.signal(signal.SIGVTALRM, over)
    # Again and again: jinja2 computes constants before it renders, and what is raised there could be lost.
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS, 0.2)
    try:
        yield
    finally:
        running = False
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@contextmanager
def _limited_memory() -> Generator[None]:
    """Where the system tells how much address space the process has (Linux)."""
    try:
        with open(PAGES, "rb", buffering=0) as file:  # noqa: PTH123 - twice a row, and pathlib is slow
            pages = int(file.read().split()[0])
    except OSError:
        yield
        return
    import resource

    kind = resource.RLIMIT_AS
    soft, hard = resource.getrlimit(kind)
    wanted = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(kind, (wanted if soft == resource.RLIM_INFINITY else min(wanted, soft), hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (soft, hard))
