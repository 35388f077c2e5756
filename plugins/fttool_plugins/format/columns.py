"""A row's columns: fetch one, or say which there are and what to write into the recipe for them.

A recipe that is proposed reads every column of the row; where none does, the one that reads most is proposed, with what
it would leave unread.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from fttool.api import MARKS

_TEMPLATE = ("tools", "chat_template_kwargs")
"""Columns that formats of conversations read beside the turns."""
_PAIRS = (
    ("instruction", "output"),
    ("instruction", "response"),
    ("question", "answer"),
    ("prompt", "response"),
    ("query", "response"),
    ("input", "output"),
)
"""What other datasets call a prompt and its completion."""
_BESIDE = {
    "input": ("input", "context"),
    "system": ("system", "system_prompt", "system_message"),
    "history": ("history",),
}
"""What `alpaca` reads beside an instruction and its output, and what that is called elsewhere."""
_PREFERENCES = (
    ("chosen", "rejected"),
    ("chosen_response", "rejected_response"),
    ("response_chosen", "response_rejected"),
    ("preferred_output", "non_preferred_output"),
)
"""What data sets of preferences call the better answer and the other one."""
_ASKED = ("prompt", "question", "instruction", "query", "input")
"""What they call what both answer."""


class _Proposal(NamedTuple):
    """A format for the columns that a row has."""

    text: str
    reads: frozenset[str]


def fetch(row: Mapping[str, Any], column: str, option: str, format_id: str) -> Any:
    """The row's value in `column`.

    Args:
        row: The raw row.
        column: The column's name.
        option: The format's option that names the column, for advice.
        format_id: The format that asks, for advice.

    Raises:
        ValueError: where the row has no such column, or null in it.
    """
    if column not in row:
        there = f"its columns: {_quoted(list(row)[:8])}" if row else "it has no columns"
        raise ValueError(f"the row has no '{column}' ({there}){_advice(row, column, option, format_id)}")
    value = row[column]
    if value is None:
        raise ValueError(f"'{column}' is null")
    return value


def _advice(row: Mapping[str, Any], column: str, option: str, format_id: str) -> str:
    """A clause that says what to write instead; empty where the columns remind of nothing."""
    columns = frozenset(row) - set(MARKS)
    proposals = [proposal for proposal in _proposals(row, format_id) if proposal.reads]
    near = difflib.get_close_matches(column, list(row), n=1)
    if not proposals and near:
        proposals = [_Proposal(f'did you mean format = {{name = "{format_id}", {option} = "{near[0]}"}}?', columns)]
    if not proposals:
        return _odd(row, column, option, format_id)
    best = min(proposals, key=lambda proposal: len(columns - proposal.reads))
    unread = sorted(columns - best.reads)
    left = f" (which leaves {_quoted(unread)} unread)" if unread else ""
    return f"; {best.text}{left}"


def _odd(row: Mapping[str, Any], column: str, option: str, format_id: str) -> str:
    """What may be wrong with columns that remind of no format."""
    for name, value in row.items():
        if isinstance(value, Mapping) and column in value:
            return f'; it lies inside \'{name}\': try format = {{name = "{format_id}", {option} = "{name}.{column}"}}'
    if all(isinstance(value, str) for value in row.values()) and any(name.count(" ") >= 2 for name in row):
        lacking = "; the names look like values: does the file lack a first row that names the columns? then "
        return lacking + 'reader = { name = "csv", columns = ["…"] }'
    return ""


def _proposals(row: Mapping[str, Any], format_id: str) -> Iterator[_Proposal]:
    """Formats that take the row, the likelier ones first; a chat stays a chat."""
    columns = frozenset(row)
    plain = format_id in ("prompt-completion", "text")
    yield from _preferences(row, format_id)
    if "schemaVersion" in columns and format_id != "bedrock":
        yield _Proposal('it looks like format = "bedrock"', frozenset(("schemaVersion", "system", "messages")))
    if "contents" in columns and format_id != "gemini":
        reads = frozenset(("contents", "systemInstruction", "system_instruction"))
        yield _Proposal('it looks like format = "gemini"', reads)
    if "messages" in columns and format_id != "messages":
        yield _Proposal('it looks like format = "messages"', frozenset(("messages", *_TEMPLATE)))
    for name, turns in row.items():
        if isinstance(turns, list | tuple) and turns and isinstance(turns[0], Mapping) and name != "messages":
            yield from _turns(name, turns[0], format_id)
    if {"instruction", "output"} <= columns and format_id != "alpaca":
        reads = frozenset(("instruction", "input", "output", "system", "history"))
        yield _Proposal('it looks like format = "alpaca"', reads)
    spelled = {name.lower(): name for name in sorted(columns, key=lambda name: (name.islower(), name))}
    for prompt, completion in (("prompt", "completion"), *_PAIRS):
        if {prompt, completion} <= spelled.keys():
            yield _pair(spelled[prompt], spelled[completion], spelled, plain, format_id)
    for label in ("label", "labels"):
        if {"text", label} <= columns and format_id != "labelled":
            yield _Proposal('it looks like format = "labelled"', frozenset(("text", label)))
    if "text" in columns and format_id not in ("text", "labelled"):
        yield _Proposal('it looks like format = "text"', frozenset(("text",)))


def _preferences(row: Mapping[str, Any], format_id: str) -> Iterator[_Proposal]:
    """Two answers, of which one is the better."""
    for chosen, rejected in _PREFERENCES if format_id != "preference" else ():
        if chosen not in row or rejected not in row:
            continue
        prompt = next((name for name in _ASKED if name in row), "prompt")
        template = () if isinstance(row[chosen], str) else _TEMPLATE
        reads = frozenset((prompt, chosen, rejected, "system", *template))
        inside = row.get(prompt)
        path = f"{prompt}.messages" if isinstance(inside, Mapping) and "messages" in inside else prompt
        given = {"prompt": path, "chosen": chosen, "rejected": rejected}
        options = "".join(f', {option} = "{name}"' for option, name in given.items() if option != name)
        said = f'{{name = "preference"{options}}}' if options else '"preference"'
        yield _Proposal(f"it looks like format = {said}", reads)


def _turns(column: str, first: Mapping[str, Any], format_id: str) -> Iterator[_Proposal]:
    """A column with turns in it, of which the first is given."""
    reads = frozenset((column, "system", *_TEMPLATE))
    option = "" if column == "conversations" else f', column = "{column}"'
    sharegpt = f'{{name = "sharegpt"{option}}}' if option else '"sharegpt"'
    if "from" in first:
        yield _Proposal(f"it looks like format = {sharegpt}", reads)
    elif "role" in first:
        yield _Proposal(f'try format = {{name = "messages", column = "{column}"}}', reads - {"system"})
        yield _Proposal(f"try format = {sharegpt}", reads)


def _pair(prompt: str, completion: str, spelled: Mapping[str, str], plain: bool, format_id: str) -> _Proposal:
    """A prompt and its answer: as plain text where that is asked for or usual, else through the chat template."""
    if (prompt, completion) == ("prompt", "completion") and format_id != "prompt-completion":
        return _Proposal('it looks like format = "prompt-completion"', frozenset((prompt, completion, "system")))
    if plain:
        options = f'prompt = "{prompt}", completion = "{completion}"'
        reads = {prompt, completion, "system"}
        return _Proposal(f'try format = {{name = "prompt-completion", {options}}}', frozenset(reads))
    options = f'instruction = "{prompt}", output = "{completion}"'
    reads = {prompt, completion}
    for option, others in _BESIDE.items():
        name = next((spelled[other] for other in others if other in spelled and spelled[other] not in reads), None)
        if name is not None:
            options += f', {option} = "{name}"' if name != option else ""
            reads.add(name)
    return _Proposal(f'try format = {{name = "alpaca", {options}}}', frozenset(reads))


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
