"""Which columns of a dataset, and which keys of its turns, are read, passed on to the chat template, or by nobody.

What nobody reads is listed. Where its name means something to those who train on such rows elsewhere (an `input` beside
the instruction, `rejected`, `label: false`), it is refused, unless the dataset says that it may be left out: to drop it
would teach something else than the rows say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fttool.errors import Problem
from fttool.families import Example
from fttool.rows.noted import Noted, filled

_TURNS = "the turns of a conversation"
_ANSWER, _ASKED = "what is to be learned", "part of what is asked"
_PREFERENCE, _PICTURE, _SOUND = "half of a preference", "what the text is about", "what the text is about"
_SHARE, _TOOLS, _THOUGHT = "how much a row is to count", "what the model may call, or calls", "what is thought first"
MEANT: Mapping[str, str] = {
    **dict.fromkeys(("weight", "weights", "sample_weight", "train", "trainable", "loss", "masked", "mask"), _SHARE),
    **dict.fromkeys(("loss_mask", "loss_scale", "train_detail"), _SHARE),
    **dict.fromkeys(("label", "labels"), "a class, or whether the answer is wanted at all"),
    **dict.fromkeys(("chosen", "rejected", "chosen_response", "rejected_response"), _PREFERENCE),
    **dict.fromkeys(("system", "system_prompt", "developer", "instruction", "question", "query", "prompt"), _ASKED),
    **dict.fromkeys(("input", "context", "history", "documents"), _ASKED),
    **dict.fromkeys(("completion", "output", "response", "answer", "text"), _ANSWER),
    **dict.fromkeys(("messages", "conversations", "conversation"), _TURNS),
    **dict.fromkeys(("image", "images", "video", "videos"), _PICTURE),
    **dict.fromkeys(("audio", "audios"), _SOUND),
    **dict.fromkeys(("tools", "functions", "function_call", "tool_calls", "chat_template_kwargs"), _TOOLS),
    **dict.fromkeys(("reasoning", "reasoning_content", "thinking", "thought", "thoughts"), _THOUGHT),
}
"""Names of columns and of keys of turns by which others train, and what they say there."""


@dataclass
class Use:
    """Of one column or key: in how many rows, or turns, where something stands in it."""

    read: int = 0
    not_read: int = 0
    passed_on: int = 0
    """Of those that are read: the chat template is given them."""
    lost: int = 0
    """Of those that are not: the name means something, and the value does not stand in what is read as well."""
    first_lost: str = ""
    """`file:line` of the first of these."""


@dataclass
class Columns:
    """What of a dataset's rows is read."""

    ignore: tuple[str, ...] = ()
    columns: dict[str, Use] = field(default_factory=dict[str, Use])
    turn_keys: dict[str, Use] = field(default_factory=dict[str, Use])
    ignored: dict[str, int] = field(default_factory=dict[str, int])
    """Rows that have a column, or a key in a turn, which the recipe says to ignore."""

    def count(self, row: Noted, turns: Iterable[Noted], ignored: Iterable[str], example: Example) -> bool:
        """Add a row that has been read into an example; True where something of it is lost."""
        for key in ignored:
            self.ignored[key] = self.ignored.get(key, 0) + 1
        lost = self._count(self.columns, row, example)
        for turn in turns:
            lost |= self._count(self.turn_keys, turn, example)
        for message in example.messages:
            for key in message.keys() - {"role", "content"}:
                self.turn_keys.setdefault(key, Use()).passed_on += 1
        return lost

    def _count(self, uses: dict[str, Use], row: Noted, example: Example) -> bool:
        any_lost = False
        for key in row.keys():  # noqa: SIM118 - items() would read them
            value = dict.__getitem__(row, key)
            if not filled(value):
                continue
            use = uses.setdefault(key, Use())
            if key in row.noted:
                use.read += 1
                continue
            use.not_read += 1
            if key in MEANT and not _stands_in(value, example):
                use.lost += 1
                use.first_lost = use.first_lost or example.origin
                any_lost = True
        return any_lost

    def problems(self, format_id: str, remedy: str) -> list[Problem]:
        """What must not be left out in silence: a problem for each name. `remedy` begins the last one's hint."""
        lost = [
            (what, key, use)
            for what, uses in (("column", self.columns), ("key of turns", self.turn_keys))
            for key, use in uses.items()
            if use.lost
        ]
        found = [
            Problem(
                f"the {what} '{key}' ({MEANT[key]}) is filled in {_times(use.lost, what)} and format '{format_id}' "
                "does not read it",
                use.first_lost,
            )
            for what, key, use in lost
        ]
        if found:
            names = ", ".join(f'"{key}"' for key in dict.fromkeys(key for _, key, _ in lost))
            hint = f"{remedy}; where it may be left out, say so beside the path: ignore = [{names}]"
            found[-1] = Problem(found[-1].message, found[-1].where, hint)
        return found

    def unmet(self) -> list[str]:
        """Names to ignore that no row has."""
        return [key for key in self.ignore if key not in self.ignored]

    def as_data(self) -> dict[str, Any]:
        """For `lock.json` and programs: counts above 0, by column and by key of turns."""

        def counts(uses: Mapping[str, Use]) -> dict[str, dict[str, int]]:
            kinds = ("read", "not_read", "passed_on")
            return {key: {kind: n for kind in kinds if (n := getattr(use, kind))} for key, use in uses.items()}

        found: dict[str, Any] = {"columns": counts(self.columns)}
        if self.turn_keys:
            found["turn_keys"] = counts(self.turn_keys)
        if self.ignore:
            found["ignored"] = {key: self.ignored.get(key, 0) for key in self.ignore}
        return found


def described(name: str, data: Mapping[str, Any]) -> list[str]:
    """The same for people, from `as_data`: a line a kind, with the numbers of rows or turns."""
    lines: list[str] = []
    for what, uses in (("columns", data["columns"]), ("keys of turns", data.get("turn_keys", {}))):
        for kind, words in (("read", "read"), ("passed_on", "given to the chat template"), ("not_read", "not read")):
            counts = [f"{key} ({use[kind]:,})" for key, use in uses.items() if kind in use]
            lines += [f"{name}: {what} {words}: {', '.join(counts)}"] if counts else []
    ignored = [f"{key} ({count:,})" for key, count in data.get("ignored", {}).items()]
    return [*lines, *([f"{name}: ignored, as the recipe says: {', '.join(ignored)}"] if ignored else [])]


def _stands_in(value: Any, example: Example) -> bool:
    """Whether a text that was not read is one that was: a `prompt` beside the turns that begin with it, say."""
    texts = [example.prompt, example.completion, example.second, *(m.get("content") for m in example.messages)]
    return isinstance(value, str) and value.strip() in {text.strip() for text in texts if isinstance(text, str)}


def _times(count: int, what: str) -> str:
    of = "row" if what == "column" else "turn"
    return f"{count:,} {of}{'' if count == 1 else 's'}"
