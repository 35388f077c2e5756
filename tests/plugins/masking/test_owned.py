"""Text keeps its owners through all that a template does with it.

The oracle: a text of characters that are all different, each with an owner of its own. Whatever an operation yields,
each character that was in the text must have its owner still, and all others must be the template's.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from fttool_plugins.masking.owned import SEVERAL, Owned, Owner, found_again, join, owned, plain, runs, to_json

LETTERS = "bdfhjlnprtvxzBDFHJLNPRTVXZ <>\n\t"
OWNERS = {letter: Owner(place % 3, f"field {place}") for place, letter in enumerate(LETTERS)}


def text(letters: str) -> Owned:
    return Owned(letters, tuple((1, OWNERS[letter]) for letter in letters))


def owners(value: str) -> list[Owner | None]:
    return [owner for number, owner in runs(value) for _ in range(number)]


def check(found: Any, expected: Any) -> None:
    """Equal to what plain text yields, and each character has its owner."""
    assert found == expected
    if isinstance(found, str):
        assert len(owners(found)) == len(found)
        assert owners(found) == [OWNERS.get(letter) for letter in plain(found)]
    else:
        for one, other in zip(found, expected, strict=True):
            check(one, other)


METHODS: dict[str, Callable[[Any, random.Random], Any]] = {
    "add": lambda s, r: "ace" + s + "gik" + s[:2] + "",
    "multiply": lambda s, r: s * 2 + 2 * s,
    "slice": lambda s, r: s[r.randrange(-9, 9) : r.randrange(-9, 9)],
    "step": lambda s, r: s[:: r.choice([-2, -1, 2])],
    "index": lambda s, r: s[r.randrange(-len(s), len(s))],
    "iterate": lambda s, r: list(s),
    "strip": lambda s, r: [s.strip(), s.lstrip(), s.rstrip(), s.strip("b\n"), s.rstrip("Z >")],
    "split": lambda s, r: [*s.split(), *s.split(None, 1), *s.rsplit(None, 1), *s.split(s[3]), *s.rsplit(s[3:5], 1)],
    "lines": lambda s, r: [*s.splitlines(), *s.splitlines(True)],
    "partition": lambda s, r: [*s.partition(s[4]), *s.rpartition(s[4]), *s.partition("?"), *s.rpartition("?")],
    "replace": lambda s, r: [
        s.replace(s[2], "ace"),
        s.replace(s[2:4], ""),
        s.replace("?", "!"),
        Owned("ace").replace("c", s),
    ],
    "join": lambda s, r: [s[:1].join(["a", "c"]), s.join([]), s.join(["a"]), Owned(",").join([s, "a"])],
    "affixes": lambda s, r: [s.removeprefix(s[:3]), s.removesuffix(s[-3:]), s.removeprefix("?"), s.removesuffix("?")],
    "pad": lambda s, r: [s.ljust(40, "."), s.rjust(40, "."), s.center(41, "."), s.zfill(35)],
    "percent": lambda s, r: [Owned("(a)%s(c)") % s[:5], Owned("%s|%d%s") % (s[:5], 7, s[5:6])],
    "str": lambda s, r: str(s),
}


@pytest.mark.parametrize("method", METHODS)
def test_each_character_keeps_its_owner(method: str) -> None:
    for seed in range(50):
        letters = "".join(random.Random(seed).sample(LETTERS, len(LETTERS)))
        found = METHODS[method](text(letters), random.Random(seed))
        check(found, METHODS[method](letters, random.Random(seed)))


def test_all_of_a_value_is_owned_text_by_text() -> None:
    value = owned({"name": "f", "arguments": {"city": ["Bonn", 5, None, True]}}, 3, "tool_calls")
    assert value == {"name": "f", "arguments": {"city": ["Bonn", 5, None, True]}}
    (key,) = value["arguments"]
    parts = [*value, value["name"], key, value["arguments"][key][0]]
    assert len({owners(part)[0] for part in parts}) == len(parts)
    assert owners(value["arguments"]["city"][0])[0] == Owner(3, "tool_calls", 4, 4)


@pytest.mark.parametrize("options", [{}, {"indent": 2}, {"ensure_ascii": True}, {"separators": (",", ":")}])
@pytest.mark.parametrize("sort_keys", [False, True])
def test_json_is_that_of_the_standard_library(options: dict[str, Any], sort_keys: bool) -> None:
    plain_value = {"z": ['Say "Bönn"\n', {}, [], 5.5, {"a": None, "b": True}], "k": "", "a": "\U0001f600<>"}
    value = {Owned("z"): owned(plain_value["z"], 1, "x"), **{key: plain_value[key] for key in ("k", "a")}}
    found = to_json(value, sort_keys=sort_keys, **options)
    expected = {"ensure_ascii": False, "sort_keys": sort_keys, **options}
    assert found == json.dumps(plain_value, **expected)
    of_x = "".join(letter for letter, owner in zip(found, owners(found), strict=True) if owner)
    assert of_x == json.dumps('Say "Bönn"\n', **expected)[1:-1] + "ab"


def test_what_cannot_be_followed_is_nobodys_template() -> None:
    one, other = owned("Aa", 1, "content"), owned("Bb", 2, "content")
    assert owners(join([one, "|", other]).swapcase()) == [*owners(one), None, *owners(other)]
    assert set(owners(one.translate({65: "xyz"}))) == {owners(one)[0]}
    assert set(owners(join([one, other]).expandtabs())) == {SEVERAL}
    assert set(owners(Owned("%s %s") % (one, owned("Aa", 2, "content")))) == {SEVERAL}
    assert set(owners(found_again("aA", (one,)))) == {owners(one)[0]}
    assert owners(owned("ß", 1, "content").upper()) == [Owner(1, "content", 0, 1)] * 2
