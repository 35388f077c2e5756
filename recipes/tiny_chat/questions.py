"""Conversations made from documentation: what the model learns about talking, before anyone fine-tunes it.

Which words a question is put in is chosen by a hash of the name, so the same Python always makes the same rows.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from rows import Row, row
from stdlib_docs import Documented, Kind
from summaries import sentences, summary

T = TypeVar("T")

HELD_OUT = frozenset(
    [
        "base64",
        "bisect",
        "calendar",
        "collections",
        "configparser",
        "contextlib",
        "copy",
        "csv",
        "dataclasses",
        "datetime",
        "decimal",
        "difflib",
        "enum",
        "fnmatch",
        "fractions",
        "functools",
        "glob",
        "heapq",
        "io",
        "ipaddress",
        "itertools",
        "json",
        "math",
        "operator",
        "pathlib",
        "queue",
        "random",
        "re",
        "secrets",
        "shutil",
        "statistics",
        "string",
        "tarfile",
        "tempfile",
        "textwrap",
        "time",
        "typing",
        "urllib",
        "uuid",
        "zipfile",
    ]
)
"""Modules about which no pre-training conversation speaks: the quickstart fine-tunes on them."""

ABOUT_FUNCTION = (
    "What does `{name}` do?",
    "What is `{name}` for?",
    "Explain `{name}`.",
    "Tell me about `{name}`.",
    "I found `{name}` in some code. What does it do?",
    "What happens when I call `{name}`?",
    "what does {name} do",
    "What does the {kind} `{short}` of `{owner}` do?",
)
ABOUT_PROPERTY = (
    "What is `{name}`?",
    "What is the property `{short}` of `{owner}`?",
    "Explain `{name}`.",
    "what is {name}",
)
ABOUT_CLASS = (
    "What is `{name}`?",
    "What is the class `{name}` for?",
    "Explain the class `{name}`.",
    "What does a `{short}` of `{owner}` stand for?",
    "Tell me about `{name}`.",
    "what is {name}",
)
ABOUT_EXCEPTION = (
    "When is `{name}` raised?",
    "What does the exception `{name}` mean?",
    "I got a `{name}`. What does that mean?",
    "Explain `{name}`.",
)
ABOUT_MODULE = (
    "What is in the module `{name}`?",
    "What is the module `{name}` for?",
    "When would I import `{name}`?",
    "Explain the module `{name}`.",
    "what is {name}",
)
ABOUT: Mapping[Kind, Sequence[str]] = {
    "function": ABOUT_FUNCTION,
    "method": ABOUT_FUNCTION,
    "property": ABOUT_PROPERTY,
    "class": ABOUT_CLASS,
    "module": ABOUT_MODULE,
}
ABOUT_TOPIC = (
    "What does Python's reference say about this: {name}?",
    "Explain this part of Python: {name}.",
    "Tell me about this topic: {name}.",
)
FOLLOW_UPS = ("And where is it?", "Where do I find it?", "Which module is it in?")
BRIEF_SYSTEM = ("Answer in one sentence.", "Be brief.", "You answer questions about Python in one sentence.")
PLAIN_SYSTEM = (
    "You answer questions about Python.",
    "You are a helpful assistant.",
    "You know Python's documentation.",
)
SMALL_TALK: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "greeting": (
        ("Hello", "Hello!", "Hi", "Hi there!", "Good morning.", "hey", "Good evening!"),
        ("Hello! Ask me about Python.", "Hello! Which part of Python would you like to know about?"),
    ),
    "identity": (
        ("Who are you?", "What are you?", "What is your name?", "Are you a person?", "Introduce yourself."),
        ("I am tiny-chat, a small language model that has read Python's documentation.",),
    ),
    "ability": (
        ("What can you do?", "What do you know?", "How can you help me?", "Can you help me?"),
        ("I answer short questions about Python's standard library. I am small, so check what I say.",),
    ),
    "thanks": (
        ("Thanks!", "Thank you.", "Thanks, that helps.", "Great, thank you!"),
        ("You are welcome.", "You are welcome. Ask me more if you like."),
    ),
    "farewell": (("Bye!", "Goodbye.", "See you."), ("Goodbye!", "Goodbye, and happy coding.")),
}


def conversations(things: Sequence[Documented], topics: Mapping[str, str]) -> list[Row]:
    """All rows about what is public, said in a sentence, and not in a held-out module; no answer twice."""
    rows: list[Row] = []
    answered: set[str] = set()
    for thing in things:
        answer = summary(thing.doc)
        if not thing.public or thing.module.split(".")[0] in HELD_OUT or not answer or answer in answered:
            continue
        answered.add(answer)
        rows.append(_description(thing, answer))
        rows.extend(extra(thing, answer) for extra in _extras(thing))
    rows.extend(_topic_rows(topics))
    rows.extend(_small_talk())
    return rows


def pick(options: Sequence[T], *key: str) -> T:
    """One of the options, by a hash of the key: the same for everyone who runs this."""
    return options[_hash(*key) % len(options)]


def ask(template: str, thing: Documented) -> str:
    """The question about a thing."""
    return template.format(name=thing.name, short=thing.short, owner=thing.owner, kind=thing.kind)


def _hash(*key: str) -> int:
    return int.from_bytes(hashlib.sha256("\0".join(key).encode()).digest()[:8], "big")


def _templates(thing: Documented) -> Sequence[str]:
    if thing.kind == "class" and thing.short.endswith(("Error", "Exception", "Warning")):
        return ABOUT_EXCEPTION
    return ABOUT[thing.kind]


def _description(thing: Documented, answer: str) -> Row:
    """One question about a thing: a quarter with a system turn, an eighth with a second question."""
    question = ask(pick(_templates(thing), "question", thing.name), thing)
    shape = _hash("shape", thing.name) % 8
    if shape == 0:
        return row(thing.name, question, sentences(answer)[0], system=pick(BRIEF_SYSTEM, "system", thing.name))
    if shape == 1:
        return row(thing.name, question, answer, system=pick(PLAIN_SYSTEM, "system", thing.name))
    if shape == 2 and thing.kind != "module":
        return row(thing.name, question, answer, pick(FOLLOW_UPS, "follow-up", thing.name), _place(thing))
    return row(thing.name, question, answer)


# -- more questions about the same thing -----------------------------------------------------------------------------


def _extras(thing: Documented) -> Iterator[Callable[[Documented, str], Row]]:
    """Which of the further questions a thing gets: about every third thing one."""
    chosen = _hash("extra", thing.name) % 12
    if chosen == 0 and thing.kind != "module":
        yield lambda thing, _: row(thing.name, f"Where do I find `{thing.short}`?", _place(thing))
    elif chosen == 1:
        yield lambda thing, _: row(
            thing.name, f"What kind of thing is `{thing.name}`?", f"`{thing.name}` is a {thing.kind}."
        )
    elif chosen in (2, 3) and thing.kind != "module":
        yield lambda thing, answer: row(thing.name, f"Which {thing.kind} does this? {answer}", f"`{thing.name}`.")
    elif chosen in (4, 5) and thing.parameters is not None and len(thing.parameters) <= 6:
        yield lambda thing, _: row(thing.name, f"Which arguments does `{thing.name}` take?", _arguments(thing))


def _place(thing: Documented) -> str:
    if thing.kind in ("method", "property"):
        return f"`{thing.short}` is a {thing.kind} of `{thing.owner}`."
    if thing.module == "builtins":
        return f"`{thing.name}` is built in."
    return f"`{thing.short}` is in the module `{thing.module}`."


def _arguments(thing: Documented) -> str:
    names = [f"`{p.name}`" for p in thing.parameters or () if p.name != "*"]
    if not names:
        return f"`{thing.name}` takes no arguments."
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return f"`{thing.name}` takes {listed}."


# -- the language itself, and small talk -----------------------------------------------------------------------------


def _topic_rows(topics: Mapping[str, str]) -> Iterator[Row]:
    """A row for each titled section of the language reference that starts with a sentence."""
    seen: set[str] = set()
    for text in topics.values():
        for title, body in re.findall(r"^(\S.*)\n[*=~^-]{4,}\n+((?:.*\n?){1,30})", text, flags=re.MULTILINE):
            name = _backticks(title.replace("*", "`"))
            answer = _backticks(summary(body))
            if answer and name not in seen and not _speaks_of_held_out(f"{name} {answer}"):
                seen.add(name)
                yield row(f"topic: {name}", pick(ABOUT_TOPIC, "topic", name).format(name=name), answer)


def _backticks(text: str) -> str:
    """The reference writes code in double quotes; documentation strings and chats write it in backticks."""
    return re.sub(r'"([^"\s][^"]*)"', r"`\1`", text)


def _speaks_of_held_out(text: str) -> bool:
    return any(code.split(".")[0] in HELD_OUT for code in re.findall(r"`([\w.]+)", text))


def _small_talk() -> Iterator[Row]:
    for about, (questions, answers) in SMALL_TALK.items():
        for question in questions:
            for answer in answers:
                yield row(f"small talk: {about}", question, answer)
                system = pick(PLAIN_SYSTEM, question, answer)
                yield row(f"small talk: {about}", question, answer, system=system)
