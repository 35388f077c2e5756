"""The first of equal rows is kept."""

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from fttool.api import Example, Kept
from fttool.testing import filter_context
from fttool_plugins.filter.exact_duplicates import ExactDuplicates


def chat(*texts: str, **keys: Any) -> Example:
    roles = ("user", "assistant") * len(texts)
    turns = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    turns[-1] |= keys
    return Example(origin=f"rows.jsonl:{id(turns)}", messages=tuple(turns), completion_from=len(turns) - 1)


def text(prompt: str, completion: str) -> Example:
    return Example(origin="rows.jsonl:1", prompt=prompt, completion=completion)


def dropped(examples: list[Example], **options: Any) -> list[int]:
    found = ExactDuplicates(**options).build(filter_context())(examples)
    assert len(found) == len(examples)
    assert {reason for reason in found if reason} <= {f"same {options.get('compare', 'row')} as an earlier row"}
    return [index for index, reason in enumerate(found) if reason]


def test_the_first_of_equal_conversations_is_kept_wherever_it_comes_from() -> None:
    assert dropped([chat("a", "b"), chat("a", "c"), chat("a", "b"), chat("a", "b")]) == [2, 3]
    assert dropped([]) == []


@pytest.mark.parametrize(
    "other",
    [
        chat("a", "b "),
        chat("a", "B"),
        chat("a", "b", "a", "b"),
        chat("ab"),
        chat("a", "b", reasoning_content="c"),
        replace(chat("a", "b"), template={"enable_thinking": False}),
        text("a", "b"),
    ],
)
def test_rows_that_the_model_sees_differently_are_all_kept(other: Example) -> None:
    assert dropped([chat("a", "b"), other]) == []


def test_the_order_of_keys_does_not_count() -> None:
    turned = Example(origin="x", messages=tuple(dict(reversed(m.items())) for m in chat("a", "b").messages))
    assert dropped([chat("a", "b"), turned]) == [1]


def test_text_is_compared_by_its_two_parts() -> None:
    rows = [text("ab", "c"), text("a", "bc"), text("ab", "c"), text("", "abc")]
    assert dropped(rows) == [2]


def test_equal_prompts() -> None:
    rows = [chat("a", "b"), chat("a", "c"), chat("a", "b", "c", "d"), text("p", "x"), text("p", "y")]
    assert dropped(rows, compare="prompt") == [1, 4]


def test_rows_without_a_prompt_are_not_all_the_same() -> None:
    assert dropped([text("", "a"), text("", "b"), chat("a")], compare="prompt") == []


def test_equal_answers() -> None:
    rows = [chat("a", "b"), chat("c", "b"), text("p", "b"), chat("a", "c")]
    assert dropped(rows, compare="answer") == [1, 2]


def test_each_dataset_starts_afresh() -> None:
    decide = ExactDuplicates().build(filter_context())
    assert list(decide([chat("a", "b")])) == list(decide([chat("a", "b")])) == [None]


def test_an_unknown_part_is_refused() -> None:
    with pytest.raises(ValidationError):
        ExactDuplicates(compare="completion")  # type: ignore[arg-type]


SAME = "Le Café  serves\tcoffee"
WRITTEN: dict[str, list[str]] = {
    "unicode": ["Le Cafe\u0301  serves\tcoffee"],
    "case": ["LE CAFÉ  SERVES\tCOFFEE", "le café  serves\tcoffee"],
    "space": [" Le Café serves coffee\n", "Le\u00a0Café serves\r\ncoffee"],
}


@pytest.mark.parametrize("ignore", [(), ("unicode",), ("case",), ("space",), ("unicode", "case", "space")])
def test_what_is_ignored_makes_no_difference_and_all_else_does(ignore: tuple[str, ...]) -> None:
    for kind, others in WRITTEN.items():
        for other in others:
            for make in (lambda text: chat("a", text), lambda text: chat(text, "a"), lambda t: text(t, "a")):
                assert dropped([make(SAME), make(other)], ignore=ignore) == ([1] if kind in ignore else [])
    both = SAME.upper().replace("É", "E\u0301")
    assert dropped([chat("a", SAME), chat("a", both)], ignore=ignore) == ([1] if len(ignore) == 3 else [])
    assert dropped([chat("a", SAME), chat("a", f"{SAME}.")], ignore=ignore) == []


def test_classes_are_compared_as_they_are() -> None:
    rows = [Example(origin="r:1", prompt="A text", labels=(label,)) for label in ("ham", "Ham", "ham")]
    assert dropped(rows, ignore=("case",)) == [2]


def test_duplicates_can_be_flagged() -> None:
    found = ExactDuplicates(action="flag").build(filter_context())([chat("a", "b"), chat("a", "b")])
    assert found == [None, Kept("same row as an earlier row")]
