"""`messages`: one conversation a row, as chat APIs and trl write it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from typing_extensions import override

from fttool.api import Example, Format, FormatContext, RowReader
from fttool_plugins.format.columns import fetch
from fttool_plugins.format.conversation import check_order, read_template, read_turns


class Messages(Format):
    """A conversation: `{"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}`.

    Roles are system, developer, user, assistant and tool; the last turn is the assistant's, and is the completion.
    Content is text or a list of `{"type": "text", "text": "…"}`; it may be null only beside `tool_calls`. A turn with
    `weight: 0`, `train: false`, `training: false`, `trainable: false`, `loss: false` or `masked: true` is read and not
    learned; a weight between 0 and 1 is refused. Further keys of a turn go to the chat template, and so do the columns
    `tools` and `chat_template_kwargs`: without the nulls that a table puts there, and with arguments of tool calls that
    are JSON text as objects.
    """

    name: Literal["messages"] = "messages"
    example: ClassVar[Mapping[str, Any]] = {
        "messages": [{"role": "user", "content": "Is it far?"}, {"role": "assistant", "content": "Two miles."}]
    }
    column: str = "messages"
    """The column that holds the list of turns."""

    @override
    def build(self, ctx: FormatContext) -> RowReader:
        return lambda row, origin: read_conversation(row, origin, self.column)


def read_conversation(row: Mapping[str, Any], origin: str, column: str) -> Example:
    """The conversation in `column`; raises `ValueError` where there is none to learn from."""
    messages, unlearned = read_turns(fetch(row, column, "column", "messages"), column)
    check_order(messages)
    return Example(
        origin=origin,
        messages=messages,
        completion_from=len(messages) - 1,
        template=read_template(row),
        unlearned=unlearned,
    )
