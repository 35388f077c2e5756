"""Who is asked what training saw: a server over HTTP, or a model that transformers loads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fttool.api import Message, ModelError, UsageError


class RefusedError(ModelError):
    """Raised where one conversation is refused, and the next one may not be."""


class Other(ABC):
    """Somebody who makes tokens of conversations."""

    name: str
    """What it is called."""
    number_format: str = ""
    """That of its weights, as it calls it: `Q8_0`, `bfloat16`; empty where it does not say."""

    @abstractmethod
    def prompt(self, messages: Sequence[Message], template: Mapping[str, Any]) -> list[int]:
        """The tokens that it would answer; raises `RefusedError` where it takes no such conversation."""

    @abstractmethod
    def plain(self, text: str) -> list[int]:
        """Those of a prompt in plain text."""

    @abstractmethod
    def stops_at(self, token: int, text: str) -> str:
        """Why it would not end an answer at this token; empty where it does, or does not say."""

    @abstractmethod
    def log_probabilities(self, ids: Sequence[int], places: Sequence[int]) -> list[float | None]:
        """What it gives the tokens at these places of a row, in nats, each after all tokens before it.

        None for a token of which it says nothing; an empty list where it has no such numbers at all.
        """


def other(against: str, *, trust_remote_code: bool = False) -> Other:
    """The server at a URL, or the model in a folder or GGUF file.

    Raises:
        UsageError: for a URL of another kind than HTTP, and a path without a model.
        ModelError: for a server that does not answer, and a tokenizer that cannot be loaded.
    """
    scheme, mark, _ = against.partition("://")
    if mark and scheme not in ("http", "https"):
        raise UsageError(f"'{against}' is not an address of HTTP", hint="write http://127.0.0.1:8080")
    if mark:
        from fttool_plugins.verbs.check_template.servers import server

        return server(against)
    from fttool_plugins.verbs.check_template.plain import Transformers

    return Transformers(Path(against), trust_remote_code)
