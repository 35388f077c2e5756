"""`bedrock`: conversations as Amazon Bedrock's fine-tuning files and its Converse API write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from typing_extensions import override

from fttool.api import Example, Format, FormatContext, Message, RowReader
from fttool_plugins.format.columns import fetch
from fttool_plugins.format.conversation import Turns, as_message, each_turn
from fttool_plugins.format.pairs import Writing, of_turns

SCHEMA = "bedrock-conversation-"
"""What `schemaVersion` begins with."""


class Bedrock(Format):
    """A conversation of Amazon Bedrock: `{"schemaVersion": "bedrock-conversation-2024", "system": [{"text": "…"}],
    "messages": [{"role": "user", "content": [{"text": "…"}]}, {"role": "assistant", "content": [{"text": "…"}]}]}`.

    `system` and `schemaVersion` may be missing. Parts of a turn are joined; one that is not text (an image, a document,
    the use of a tool) is refused. Marks of turns are as in `messages`, and the last turn must be the assistant's.
    """

    name: Literal["bedrock"] = "bedrock"
    example: ClassVar[Mapping[str, Any]] = {
        "schemaVersion": "bedrock-conversation-2024",
        "system": [{"text": "Answer briefly."}],
        "messages": [
            {"role": "user", "content": [{"text": "Is it far?"}]},
            {"role": "assistant", "content": [{"text": "Two miles."}]},
        ],
    }
    column: str = "messages"
    """The column that holds the list of turns."""
    system: str = "system"
    """The column of the system turn's parts."""

    @override
    def build(self, ctx: FormatContext) -> RowReader:
        return lambda row, origin: read_bedrock(row, origin, self)


def read_bedrock(row: Mapping[str, Any], origin: str, options: Bedrock) -> Example:
    """The conversation of a row; raises `ValueError` where there is none to learn from."""
    version = row.get("schemaVersion")
    if version is not None and not (isinstance(version, str) and version.startswith(SCHEMA)):
        raise ValueError(f"'schemaVersion' is {version!r}; read is '{SCHEMA}2024' and its kin")
    turns = Turns((), frozenset())
    for turn, where in each_turn(fetch(row, options.column, "column", "bedrock"), options.column):
        turns += _read_turn(turn, where)
    system = row.get(options.system)
    text = joined_parts(system, f"'{options.system}'") if system else ""
    return of_turns(origin, turns, len(turns.messages) - 1, {}, Writing(turns=True, system=text))


def _read_turn(turn: Any, where: str) -> Turns:
    if not isinstance(turn, Mapping) or turn.get("role") not in ("user", "assistant"):
        raise ValueError(f'{where} must be {{"role": "user" or "assistant", "content": [{{"text": "…"}}]}}')
    content = turn.get("content")
    if not isinstance(content, list):
        hint = '; it looks like format = "messages"' if isinstance(content, str) else ""
        raise ValueError(f"the content of {where} must be a list of parts, this is {type(content).__name__}{hint}")
    return as_turn(turn, str(turn["role"]), joined_parts(content, where), where, ("role", "content"))


def as_turn(turn: Mapping[str, Any], role: str, text: str, where: str, read: tuple[str, ...]) -> Turns:
    """One turn with this text, its marks obeyed; keys other than those `read` are kept as in `messages`."""
    rest = {key: turn[key] for key in turn.keys() - set(read)}
    message, learned = as_message({**rest, "content": text}, role, f"{where} ({role})")
    turns: tuple[Message, ...] = (message,)
    return Turns(turns, frozenset() if learned else frozenset((0,)))


def joined_parts(parts: Any, where: str) -> str:
    """The text of a list of `{"text": …}`; raises `ValueError` for any other part, which is named."""
    if not isinstance(parts, list):
        raise ValueError(f'{where} must be a list of parts, [{{"text": "…"}}], this is {type(parts).__name__}')
    texts: list[str] = []
    for number, part in enumerate(parts, 1):
        others = sorted(key for key in part if key != "text") if isinstance(part, Mapping) else [type(part).__name__]
        filled = [key for key in others if not isinstance(part, Mapping) or part[key] is not None]
        text = part.get("text") if isinstance(part, Mapping) else None
        if filled or not isinstance(text, str):
            what = ", ".join(map(repr, filled)) or "without text"
            raise ValueError(f"part {number} of {where} is {what}; only text can be trained on")
        texts.append(text)
    return "".join(texts)
