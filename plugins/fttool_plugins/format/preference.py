"""`preference`: of two answers the better one is learned, as a first step before training on the preference itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Any, ClassVar, Literal

from typing_extensions import override

from fttool.api import Example, Format, FormatContext, Problem, Recipe, RowReader
from fttool_plugins.format.columns import fetch
from fttool_plugins.format.conversation import Turns, read_template, read_turns
from fttool_plugins.format.pairs import Writing, of_texts, of_turns, system_text
from fttool_plugins.format.tool_calls import read_tools


class Preference(Format):
    """The better of two answers: `{"prompt": "Is it far?", "chosen": "Two miles.", "rejected": "Look it up."}`.

    Only the chosen answer is learned; that the rejected one is not is said with the number of rows. Prompt and answers
    are text, or lists of turns as in `messages`. Where there is no prompt, both answers hold the whole conversation,
    and what they begin with in common is the prompt; two plain texts of this kind need `plain`, since a text has no
    turns. Beside an answer that begins with the prompt's own turns the prompt is not written twice. Texts become turns
    as in `prompt-completion`.

    The preference files of OpenAI are read with `prompt = "input.messages"`, `chosen = "preferred_output"` and
    `rejected = "non_preferred_output"`; the tools in their `input` are read too.
    """

    name: Literal["preference"] = "preference"
    example: ClassVar[Mapping[str, Any]] = {"prompt": "Is it far?", "chosen": "Two miles.", "rejected": "Look it up."}
    prompt: str = "prompt"
    """The column of what both answer; it may be missing where the answers hold the whole conversation."""
    chosen: str = "chosen"
    """The column of the answer that is learned."""
    rejected: str = "rejected"
    """The column of the other answer. It tells where a prompt ends that both answers begin with."""
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
        reader = _Reader(self, ctx.chat)

        def read(row: Mapping[str, Any], origin: str) -> Example:
            example = reader.read(row, origin)
            ctx.note(f"the answer in '{self.rejected}' is not learned")
            return example

        return read


class _Reader:
    """Reads rows with the options of one dataset; `chat` says whether there is a template, where that is known."""

    def __init__(self, options: Preference, chat: bool | None) -> None:
        self.options, self.chat = options, chat

    def read(self, row: Mapping[str, Any], origin: str) -> Example:
        """The prompt and the chosen answer; raises `ValueError` where one is missing or of another shape."""
        options = self.options
        chosen = fetch(row, options.chosen, "chosen", "preference")
        rejected = fetch(row, options.rejected, "rejected", "preference")
        prompt = row.get(options.prompt)
        _look_over(rejected)
        for value, column in ((chosen, options.chosen), (rejected, options.rejected)):
            if isinstance(value, Mapping) and "role" in value:  # one turn, without a list around it
                continue
            if not isinstance(value, str | list):
                raise ValueError(f"'{column}' must be text or a list of turns, this is {type(value).__name__}")
        if isinstance(chosen, str) != isinstance(rejected, str):
            raise ValueError(f"'{options.chosen}' and '{options.rejected}' must both be text, or both be turns")
        if isinstance(chosen, str):
            return self._texts(row, origin, prompt, chosen, rejected)
        return self._turns(row, origin, prompt, _listed(chosen), _listed(rejected))

    def _texts(self, row: Mapping[str, Any], origin: str, prompt: Any, chosen: str, rejected: str) -> Example:
        options, as_turns = self.options, bool(self.chat) and not self.options.plain
        names = (options.prompt, options.chosen)
        system = "" if options.plain else system_text(row, options.system_column)
        writing = Writing(as_turns, (system or options.system) if self.chat is not None else "")
        if isinstance(prompt, list):
            turns = read_turns(prompt, options.prompt)
            answer = {"role": "assistant", "content": chosen}
            return self._joined(row, origin, turns, read_turns([answer], options.chosen), Writing(True, writing.system))
        if prompt is None:
            if self.chat is not None and as_turns:
                raise ValueError(
                    f"the row has no '{options.prompt}', and nobody can tell turns in a text: name its column, "
                    "or set plain = true"
                )
            prompt = common_prefix(chosen, rejected)
            return of_texts(origin, prompt, chosen[len(prompt) :], names, Writing(False))
        if not isinstance(prompt, str):
            raise ValueError(f"'{options.prompt}' must be text or a list of turns, this is {type(prompt).__name__}")
        return of_texts(origin, prompt, chosen, names, writing)

    def _turns(
        self, row: Mapping[str, Any], origin: str, prompt: Any, chosen: Sequence[Any], rejected: Sequence[Any]
    ) -> Example:
        options = self.options
        answer = read_turns(chosen, options.chosen)
        if prompt is None:
            begins = min(_common(chosen, rejected), len(chosen) - 1)
            return self._joined(row, origin, answer, None, self._writing(row), begins)
        if isinstance(prompt, str):
            prompt = [{"role": "user", "content": prompt}]
        if not isinstance(prompt, list):
            raise ValueError(f"'{options.prompt}' must be text or a list of turns, this is {type(prompt).__name__}")
        asked = read_turns(prompt, options.prompt)
        if begins := _end(answer, asked):
            return self._joined(row, origin, answer, None, self._writing(row), begins)
        return self._joined(row, origin, asked, answer, self._writing(row))

    def _writing(self, row: Mapping[str, Any]) -> Writing:
        return Writing(True, system_text(row, self.options.system_column) or self.options.system)

    def _joined(
        self,
        row: Mapping[str, Any],
        origin: str,
        asked: Turns,
        answer: Turns | None,
        writing: Writing,
        completion_from: int | None = None,
    ) -> Example:
        """One conversation, with the tools of the row, or of the object that the prompt lies in."""
        turns = asked + answer if answer is not None else asked
        template = read_template(row)
        inside, dot, _ = self.options.prompt.rpartition(".")
        if dot and (tools := read_tools(row.get(f"{inside}.tools"))):
            template = {**template, "tools": tools}
        begins = len(asked.messages) if completion_from is None else completion_from
        return of_turns(origin, turns, begins, template, writing)


def _look_over(value: Any) -> None:
    """Look all of an answer up that is not learned: what it holds is said by a note, and not key by key."""
    if isinstance(value, Mapping):
        value = list(value.values())
    for item in value if isinstance(value, list) else ():
        _look_over(item)


def _listed(answer: Any) -> list[Any]:
    """The turns of an answer, which may be one turn without a list around it."""
    return [answer] if isinstance(answer, Mapping) else list(answer)


def _common(first: Sequence[Any], second: Sequence[Any]) -> int:
    """How many turns, or characters, two of them begin with in common."""
    same = takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False))
    return sum(1 for _ in same)


def _end(answer: Turns, asked: Turns) -> int:
    """How many turns of an answer are those of the prompt, with which it begins; 0 where it does not."""
    prompt = [(turn["role"], turn["content"]) for turn in asked.messages]
    said = [(turn["role"], turn["content"]) for turn in answer.messages]
    for skipped in (0, 1):  # a system turn in front of one of them alone
        if said[skipped:][: len(prompt)] == prompt and (not skipped or said[0][0] == "system"):
            return skipped + len(prompt)
    return 0


def common_prefix(chosen: str, rejected: str) -> str:
    """What two texts begin with in common, cut back to the end of a word or a line: a prompt that both hold."""
    common = chosen[: _common(chosen, rejected)]
    if len(common) in (len(chosen), len(rejected)):
        common = common[:-1]
    while common and not common[-1].isspace() and not chosen[len(common)].isspace():
        common = common[:-1]
    return common.rstrip(" ")
