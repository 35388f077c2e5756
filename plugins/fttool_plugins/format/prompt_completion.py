"""`prompt-completion`: what is read and what is learned in two columns, as text or as turns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from typing_extensions import override

from fttool.api import Example, Format, FormatContext, RowReader
from fttool_plugins.format.columns import fetch
from fttool_plugins.format.conversation import check_order, read_template, read_turns


class PromptCompletion(Format):
    """A prompt and its completion: `{"prompt": "2 + 2 =", "completion": " 4"}`.

    Both are text, which is joined as it stands, without a chat template; or both are lists of turns as in `messages`,
    which make one conversation. With turns, `tools` and `chat_template_kwargs` are read too.
    """

    name: Literal["prompt-completion"] = "prompt-completion"
    prompt: str = "prompt"
    """The column that is read and not learned; its text may be empty."""
    completion: str = "completion"
    """The column that is learned."""

    @override
    def build(self, ctx: FormatContext) -> RowReader:
        return lambda row, origin: read_pair(row, origin, self.prompt, self.completion)


def read_pair(row: Mapping[str, Any], origin: str, prompt_column: str, completion_column: str) -> Example:
    """The pair in two columns; raises `ValueError` where one is missing or nothing is to be learned."""
    prompt = fetch(row, prompt_column, "prompt", "prompt-completion")
    completion = fetch(row, completion_column, "completion", "prompt-completion")
    if isinstance(prompt, str) and isinstance(completion, str):
        if not completion.strip():
            raise ValueError(f"'{completion_column}' is empty, so there is nothing to learn")
        return Example(origin=origin, prompt=prompt, completion=completion)
    if not (isinstance(prompt, list) and isinstance(completion, list)):
        kinds = f"{type(prompt).__name__} and {type(completion).__name__}"
        names = f"'{prompt_column}' and '{completion_column}'"
        raise ValueError(f"{names} must both be text, or both be lists of turns, these are {kinds}")
    asked = read_turns(prompt, prompt_column)
    messages, unlearned = asked + read_turns(completion, completion_column)
    check_order(messages)
    return Example(
        origin=origin,
        messages=messages,
        completion_from=len(asked.messages),
        template=read_template(row),
        unlearned=unlearned,
    )
