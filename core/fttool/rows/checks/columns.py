"""Which columns of a dataset, and which keys of its turns, are read, passed on to the chat template, or by nobody.

What nobody reads is listed. Where its name means something to those who train on such rows elsewhere (an `input` beside
the instruction, `rejected`, `label: false`), it is refused, unless the dataset says that it may be left out: to drop it
would teach something else than the rows say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fttool.contracts.rows import Example
from fttool.errors import Problem, counted
from fttool.plain import is_table
from fttool.rows.checks.marks import MARKS, is_finer_mark, is_mark, marked_learned
from fttool.rows.checks.noted import PART, Noted, filled
from fttool.rows.checks.verdicts import says_bad, spelled

_TURNS = "the turns of a conversation"
_ANSWER, _ASKED = "what is to be learned", "part of what is asked"
_PREFERENCE, _PICTURE, _SOUND = "half of a preference", "what the text is about", "what the text is about"
_SHARE, _TOOLS, _THOUGHT = "how much a row is to count", "what the model may call, or calls", "what is thought first"
_TEMPLATE, _REWARD = "a variable for the chat template", "how good the answer is"
_INSIDE = "with a mark or a verdict in it, which says here that the answer is bad"
_VERDICT = "a verdict, which says here that the answer is bad"
MEANT: Mapping[str, str] = {
    **dict.fromkeys(("weight", "weights", "sample_weight", "train", "trainable", "loss", "masked", "mask"), _SHARE),
    **dict.fromkeys(("loss_mask", "loss_scale", "train_detail"), _SHARE),
    **dict.fromkeys(("label", "labels"), "a class, or whether the answer is wanted at all"),
    **dict.fromkeys(("chosen", "rejected", "chosen_response", "rejected_response"), _PREFERENCE),
    **dict.fromkeys(("preferred_output", "non_preferred_output", "response_rejected", "response_chosen"), _PREFERENCE),
    **dict.fromkeys(("reward", "rewards", "advantage", "advantages"), _REWARD),
    **dict.fromkeys(("system", "system_prompt", "developer", "instruction", "question", "query", "prompt"), _ASKED),
    **dict.fromkeys(("input", "inputs", "context", "history", "documents", "system_message"), _ASKED),
    **dict.fromkeys(("completion", "output", "response", "answer", "text", "target", "targets"), _ANSWER),
    **dict.fromkeys(("messages", "conversations", "conversation"), _TURNS),
    **dict.fromkeys(("image", "images", "image_url", "image_path", "video", "videos"), _PICTURE),
    **dict.fromkeys(("audio", "audios"), _SOUND),
    **dict.fromkeys(("tools", "functions", "function_call", "tool_calls"), _TOOLS),
    **dict.fromkeys(("chat_template_kwargs", "template_kwargs", "enable_thinking", "reasoning_effort"), _TEMPLATE),
    **dict.fromkeys(("reasoning", "reasoning_content", "thinking", "thought", "thoughts"), _THOUGHT),
    **dict.fromkeys(("cot", "chain_of_thought", "rationale"), _THOUGHT),
}
"""Names of columns and of keys of turns by which others train, and what they say there; however they are spelled
(`systemPrompt`, `System-Prompt`). Verdicts (`is_correct`) and marks (`loss_weight`) are told by `meaning`."""


def meaning(key: str, value: Any, *, classified: bool = False) -> str:
    """What a column or key that nobody reads means to others, by its name and value; empty where it means nothing.

    Of rows that are `classified` a verdict (a rating, a score) is one column of many.
    """
    known = MEANT.get(spelled(key))
    if known is not None:
        return known
    if is_mark(key) or is_finer_mark(key):
        return _SHARE
    if classified:
        return ""
    if is_table(value) and any(says_bad(name, inner) or _unlearned(name, inner) for name, inner in value.items()):
        return _INSIDE
    return _VERDICT if says_bad(key, value) else ""


def _unlearned(name: str, value: Any) -> bool:
    """Whether it is a mark that says no, such as a `weight` of 0 among a row's metadata."""
    try:
        return name in MARKS and not marked_learned({name: value}, name, in_text=True)
    except ValueError:
        return False


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
    means: str = ""
    """What it means there."""


@dataclass
class Columns:
    """What of a dataset's rows is read."""

    ignore: tuple[str, ...] = ()
    columns: dict[str, Use] = field(default_factory=dict[str, Use])
    turn_keys: dict[str, Use] = field(default_factory=dict[str, Use])
    ignored: dict[str, int] = field(default_factory=dict[str, int])
    """Rows that have a column, or a key in a turn, which the recipe says to ignore."""

    def count(
        self, row: Noted, turns: Iterable[Noted], ignored: Iterable[str], example: Example, *, taken: bool = True
    ) -> bool:
        """Add a row that has been read into an example; True where something of it is lost. Of a row that is not
        `taken` nothing is learned, so nothing is lost either.
        """
        for key in ignored:
            self.ignored[key] = self.ignored.get(key, 0) + 1
        lost = self._count(self.columns, row, example, taken)
        for turn in turns:
            lost |= self._count(self.turn_keys, turn, example, taken)
        for message in example.messages:
            for key in message.keys() - {"role", "content"}:
                self.turn_keys.setdefault(key, Use()).passed_on += 1
        return lost

    def _count(self, uses: dict[str, Use], row: Noted, example: Example, taken: bool) -> bool:
        any_lost = False
        for key in row.keys():  # noqa: SIM118 - items() would read them
            value = dict.__getitem__(row, key)
            if not filled(value):
                continue
            use = uses.setdefault(row.within + key, Use())
            if key in row.noted:
                use.read += 1
                if isinstance(value, Noted) and value.noted and not value.whole:
                    any_lost |= self._count(uses, value, example, taken)
                continue
            use.not_read += 1
            means = meaning(key, value, classified=example.labels is not None) if taken else ""
            if means and not _stands_in(value, example):
                use.lost += 1
                use.first_lost, use.means = use.first_lost or example.origin, use.means or means
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
        problems: list[Problem] = []
        for what, key, use in lost:
            times = counted(use.lost, "row" if what == "column" else "turn")
            filled_in = f"the {what} '{key}' ({use.means}) is filled in {times}"
            problems.append(Problem(f"{filled_in} and format '{format_id}' does not read it", use.first_lost))
        if problems:
            names = ", ".join(f'"{key}"' for key in dict.fromkeys(key.removeprefix(PART) for _, key, _ in lost))
            hint = f"{remedy}; where it may be left out, say so beside the path: ignore = [{names}]"
            problems[-1] = Problem(problems[-1].message, problems[-1].where, hint)
        return problems

    def unmet(self) -> list[str]:
        """Names to ignore that no row has."""
        return [key for key in self.ignore if key not in self.ignored]

    def as_data(self) -> dict[str, Any]:
        """For `lock.json` and programs: counts above 0, by column and by key of turns."""

        def counts(uses: Mapping[str, Use]) -> dict[str, dict[str, int]]:
            kinds = ("read", "not_read", "passed_on")
            return {key: {kind: n for kind in kinds if (n := getattr(use, kind))} for key, use in uses.items()}

        data: dict[str, Any] = {"columns": counts(self.columns)}
        if self.turn_keys:
            data["turn_keys"] = counts(self.turn_keys)
        if self.ignore:
            data["ignored"] = {key: self.ignored.get(key, 0) for key in self.ignore}
        return data


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
