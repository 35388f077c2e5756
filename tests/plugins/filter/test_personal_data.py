"""What identifies a person is found by its form, and numbers that only look like it are kept."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from fttool.api import Example, Kept
from fttool.testing import filter_context
from fttool_plugins.filter.personal_data import FINDERS, MAY_HAVE, PersonalData, found

QUESTIONS = Path(__file__).parents[3] / "recipes" / "data" / "stdlib-qa.jsonl"

THERE = {
    "e-mail": ["jane.doe@example.com", "a+b@mail.co.uk", "write to <max_m@uni-koeln.de>!", "x@sub.domain.museum."],
    "phone": ["+1 555 010 0000", "+49 (0)30 1234567", "call (030) 123 4567 now", "555-010-0123", "+44.20.7946.0958"],
    "card": ["4111 1111 1111 1111", "card 5555555555554444,", "3782-822463-10005", "6011111111111117."],
    "iban": ["GB82 WEST 1234 5698 7654 32", "DE89370400440532013000", "FR14 2004 1010 0505 0001 3M02 606"],
    "ip": ["8.8.8.8", "from 203.0.113.7:443", "2001:db8::8a2e:370:7334", "[2a00:1450:4001::200e]"],
    "key": ["AKIAIOSFODNN7EXAMPLE", "ghp_" + "a1B2" * 9, "-----BEGIN RSA PRIVATE KEY-----", "sk-proj-" + "aB3" * 10],
}
NOT_THERE = {
    "e-mail": ["a @ b", "@decorator", "user@host", "numpy @ torch.ones", "x@y.1"],
    "phone": ["1 2 3 4 5 6 7 8", "2024-11-30", "1980, 1, 1, 0, 0", "3.14159265358979", "x + 1234", "192.168.1.100"],
    "card": ["4111 1111 1111 1112", "1700000000000", "1234567890123456", "0x4111111111111111", "1.4111111111111111"],
    "iban": ["GB82 WEST 1234 5698 7654 33", "AB12 CDEF", "DE00 0000 0000 0000 0000 00"],
    "ip": [
        "192.168.0.1",
        "127.0.0.1",
        "10.1.2.3",
        "1.2.3",
        "300.1.1.1",
        "v1.2.3.4",
        "a[::2]",
        "std::vector",
        "12:30:45",
    ],
    "key": ["sk-learn", "ghp_short", "BEGIN PUBLIC KEY", "eyJ is a prefix"],
}


def row(answer: str) -> Example:
    turns = ({"role": "user", "content": "?"}, {"role": "assistant", "content": answer})
    return Example(origin="rows.jsonl:1", messages=turns, completion_from=1)


@pytest.mark.parametrize("kind", THERE)
def test_each_kind_is_found(kind: str) -> None:
    decide = PersonalData(kinds=(kind,)).build(filter_context())  # type: ignore[arg-type]
    for text in THERE[kind]:
        (reason,) = decide([row(f"Here it is: {text}")])
        assert reason is not None and reason.startswith("has a"), text


@pytest.mark.parametrize("kind", NOT_THERE)
def test_what_only_looks_like_it_is_kept(kind: str) -> None:
    for text in NOT_THERE[kind]:
        assert list(FINDERS[kind](f"Here it is: {text} …")) == [], text  # type: ignore[index]


def test_the_check_digit_of_a_card_decides() -> None:
    """Of ten numbers that differ in their last digit exactly one is a card's."""
    draw = random.Random(3)
    for _ in range(200):
        start = "4" + "".join(draw.choices("0123456789", k=14))
        found = [digit for digit in "0123456789" if list(FINDERS["card"](f"no. {start}{digit}"))]
        total = sum(sum(divmod(2 * int(d), 10)) if place % 2 == 0 else int(d) for place, d in enumerate(start))
        assert found == [str(-total % 10)]


def test_the_check_digits_of_an_iban_decide() -> None:
    draw = random.Random(4)
    for _ in range(50):
        rest = "".join(draw.choices("0123456789", k=18))
        found = [check for check in range(2, 99) if list(FINDERS["iban"](f"DE{check:02}{rest}"))]
        assert found == [98 - int(f"{rest}131400") % 97]


def test_every_turn_is_looked_at() -> None:
    turns = ({"role": "user", "content": "I am jane@example.org"}, {"role": "assistant", "content": "Hello!"})
    asked = Example(origin="r:1", messages=turns, completion_from=1)
    plain = Example(origin="r:2", prompt="mail", completion="to jane@example.org")
    assert PersonalData().build(filter_context())([asked, plain, row("nothing")]) == ["has an e-mail address"] * 2 + [
        None
    ]


def test_calls_thoughts_and_tools_are_looked_at() -> None:
    call = {"type": "function", "function": {"name": "send", "arguments": {"to": ["jane@example.org"], "count": 2}}}
    question = {"role": "user", "content": "Send it."}
    rows = [
        Example(origin="r:1", messages=(question, {"role": "assistant", "content": None, "tool_calls": [call]})),
        Example(origin="r:2", messages=(question, {"role": "assistant", "content": "Yes", "reasoning": "to j@x.org"})),
        Example(origin="r:3", messages=(question,), template={"documents": [{"text": "write to j@x.org"}]}),
        Example(origin="r:4", messages=(question,), template={"enable_thinking": False}),
    ]
    reasons = PersonalData().build(filter_context())(rows)
    assert reasons == ["has an e-mail address"] * 3 + [None]


def test_answers_about_python_are_kept() -> None:
    """Signatures, versions and constants look like numbers of many kinds."""
    answers = [row(json.loads(line)["messages"][-1]["content"]) for line in QUESTIONS.read_text().splitlines()]
    dropped = [
        (reason, answer.answer())
        for reason, answer in zip(PersonalData().build(filter_context())(answers), answers, strict=True)
        if reason
    ]
    assert len(dropped) <= len(answers) / 100, dropped


def test_hostile_texts_take_no_time() -> None:
    for text in ("1" * 50_000, "a@" * 20_000, "+1 " * 20_000, ":" * 50_000, "1." * 20_000, "AB12 " * 10_000):
        PersonalData().build(filter_context())([row(text)])


def test_a_mask_takes_what_is_found_and_leaves_the_rest() -> None:
    """Random texts: what stands between what was planted is there afterwards, in its order, and nothing else."""
    draw = random.Random(5)
    keep = PersonalData(action="mask", placeholder="\0{kind}\0")
    for _ in range(200):
        parts = [(kind, draw.choice(THERE[kind][:2])) for kind in draw.choices(list(THERE), k=3)]
        parts = [(kind, text.removeprefix("call ").removesuffix(" now").removeprefix("from ")) for kind, text in parts]
        parts = [(kind, text.removeprefix("card ").removesuffix(",").removesuffix(":443")) for kind, text in parts]
        between = draw.choices(["; it is ", "\n— ", " → and “that” ", " über "], k=4)
        text = between[0] + "".join(found + rest for (_, found), rest in zip(parts, between[1:], strict=True))
        expected = between[0] + "".join(f"\0{kind}\0{rest}" for (kind, _), rest in zip(parts, between[1:], strict=True))
        assert keep.masked(text) == expected, text


def test_a_masked_row_is_masked_everywhere_and_the_given_row_stays() -> None:
    mail = "jane@example.org"
    call = {"type": "function", "function": {"name": "send", "arguments": {"to": [mail], "card": 4111111111111111}}}
    turns = (
        {"role": "user", "content": [{"type": "text", "text": f"I am {mail}"}]},
        {"role": "assistant", "content": None, "tool_calls": [call], "reasoning": f"to {mail}", "weight": 0},
    )
    example = Example(origin="r:1", messages=turns, template={"documents": [{"text": mail}], "enable_thinking": False})
    (verdict,) = PersonalData(action="mask").build(filter_context())([example])
    assert isinstance(verdict, Kept) and verdict.example is not None and verdict.reason == "has an e-mail address"
    changed = verdict.example
    before, after = json.dumps([turns, example.template]), json.dumps([changed.messages, changed.template])
    assert after == before.replace(mail, "[e-mail]").replace("4111111111111111", '"[card]"')
    assert json.dumps([example.messages, example.template]) == before
    assert changed.origin == example.origin


def test_a_private_key_is_masked_to_its_end() -> None:
    body = "\n".join(["aB3/" * 16] * 4)
    for kind in ("RSA ", "", "OPENSSH "):
        key = f"-----BEGIN {kind}PRIVATE KEY-----\nDEK-Info: AES-128-CBC,00\n\n{body}\n-----END {kind}PRIVATE KEY-----"
        assert PersonalData().masked(f"Here:\n{key}\nThere.") == "Here:\n[key]\nThere."
    assert PersonalData().masked(f"-----BEGIN PRIVATE KEY-----\n{body}\nand so on") == "[key]\nand so on"


def test_what_is_flagged_stays_and_words_with_classes_are_dropped_and_not_masked() -> None:
    plain = Example(origin="r:1", prompt="Write to", completion="jane@example.org", second="")
    words = Example(origin="r:2", prompt="call +1 555 010 0000", words=((0, 4), (5, 20)), labels=("O", "B-NUMBER"))
    flags = PersonalData(action="flag").build(filter_context())([plain, words, row("nothing")])
    assert flags == [Kept("has an e-mail address"), Kept("has a phone number"), None]
    masks = PersonalData(action="mask").build(filter_context())([plain, words])
    expected = Example(origin="r:1", prompt="Write to", completion="[e-mail]")
    assert masks == [Kept("has an e-mail address", expected), "has a phone number"]


@pytest.mark.parametrize("kind", THERE)
def test_the_quick_look_overlooks_nothing(kind: str) -> None:
    """Texts of pieces that make such data, joined and damaged at random: found as without it."""
    draw, every = random.Random(kind), [text for texts in (*THERE.values(), *NOT_THERE.values()) for text in texts]
    seen = set[bool]()
    for _ in range(400):
        text = "".join(draw.choices([*every, " ", "\n", "(", ")", "-", ".", "+", "9", "x@y.zz"], k=draw.randint(1, 6)))
        cut = draw.randrange(len(text) + 1)
        text = text[:cut] + draw.choice(["", " ", "0", ")", "("]) + text[cut:]
        there = list(FINDERS[kind](text))  # type: ignore[index]
        assert list(found(kind, text)) == there, text  # type: ignore[arg-type]
        seen.add(bool(MAY_HAVE[kind](text)))  # type: ignore[index]
    assert seen == {True, False}
