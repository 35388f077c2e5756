"""`prompt-completion`: what is read and what is learned in two columns, as text or as turns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

from typing_extensions import override

from fttool.api import Example, Format, FormatContext, Problem, Recipe, RowReader
from fttool_plugins.format.columns import fetch
from fttool_plugins.format.conversation import read_template, read_turns
from fttool_plugins.format.pairs import Writing, of_texts, of_turns, system_text


class PromptCompletion(Format):
    """A prompt and its completion: `{"prompt": "What is 2 + 2?", "completion": "4"}`.

    Both are text: a turn of the user and one of the assistant, which the model's chat template writes. Under a model
    without a chat template, and with `plain`, they are joined as they stand. Or both are lists of turns as in
    `messages`, which make one conversation; with these, `tools` and `chat_template_kwargs` are read too.
    """

    name: Literal["prompt-completion"] = "prompt-completion"
    example: ClassVar[Mapping[str, Any]] = {"prompt": "What is 2 + 2?", "completion": "4"}
    prompt: str = "prompt"
    """The column that is read and not learned; in plain text it may be empty."""
    completion: str = "completion"
    """The column that is learned."""
    plain: bool = False
    """Join texts as they stand, without a chat template, whatever the model has."""
    system: str = ""
    """Text of a system turn in front of each conversation that has none of its own; default: no such turn."""
    system_column: str = "system"
    """The column of a row's own system turn, which goes before `system`."""

    @override
    def check(self, recipe: Recipe) -> Iterable[Problem]:
        if self.plain and self.system:
            yield Problem("plain text has no turns, and so no system turn", hint="leave out plain, or system")

    @override
    def build(self, ctx: FormatContext) -> RowReader:
        as_turns = bool(ctx.chat) and not self.plain
        return lambda row, origin: read_pair(row, origin, self, as_turns, known=ctx.chat is not None)


def read_pair(
    row: Mapping[str, Any], origin: str, options: PromptCompletion, as_turns: bool, *, known: bool = True
) -> Example:
    """The pair in two columns; raises `ValueError` where one is missing or nothing is to be learned.

    Where it is not `known` whether there is a chat template, what only turns have is left for later.
    """
    names = options.prompt, options.completion
    prompt = fetch(row, options.prompt, "prompt", "prompt-completion")
    completion = fetch(row, options.completion, "completion", "prompt-completion")
    if isinstance(prompt, str) and isinstance(completion, str):
        system = "" if options.plain or options.system_column in names else system_text(row, options.system_column)
        writing = Writing(as_turns, system or options.system if known else "")
        return of_texts(origin, prompt, completion, names, writing)
    if not (isinstance(prompt, list) and isinstance(completion, list)):
        kinds = f"{type(prompt).__name__} and {type(completion).__name__}"
        raise ValueError(
            f"'{options.prompt}' and '{options.completion}' must both be text, or both be lists of turns, "
            f"these are {kinds}"
        )
    asked = read_turns(prompt, options.prompt)
    turns = asked + read_turns(completion, options.completion)
    system = "" if options.system_column in names else system_text(row, options.system_column)
    if system and turns.messages[0]["role"] == "system":
        raise ValueError(f"'{options.prompt}' begins with a system turn, and there is one in '{options.system_column}'")
    writing = Writing(turns=True, system=system or options.system)
    return of_turns(origin, turns, len(asked.messages), read_template(row), writing)
