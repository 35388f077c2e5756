"""Which turns are learned: the last ones, those of given numbers, and other roles' words, over trl's chat templates,
told by words that occur once each.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from fttool.api import Example, Masking, MaskingContext
from fttool_plugins.masking.assistant import Assistant
from fttool_plugins.masking.chosen_turns import ChosenTurns
from fttool_plugins.masking.last_assistant import LastAssistant

Speaking = Callable[[str], PreTrainedTokenizerFast]
NAMES = ["qwen3", "llama3", "gptoss", "phi3", "deepseekv3", "gemma", "lfm2"]
WORDS = ["zero", "ONE", "two", "THREE", "four", "FIVE"]
TALK = tuple({"role": "assistant" if i % 2 else "user", "content": word} for i, word in enumerate(WORDS))


def learned(masking: Masking, tokenizer: PreTrainedTokenizerFast, *, unlearned: tuple[int, ...] = ()) -> str:
    """What is learned of the talk, as a run has it: split, then encoded."""
    encode = masking.build(MaskingContext(tokenizer=tokenizer))
    example = Example(origin="test", messages=TALK, completion_from=5, unlearned=frozenset(unlearned))
    rows = [encode(part) for part in masking.split(example)]
    return "".join(str(tokenizer.decode([label for label in row.labels if label != -100])) for row in rows)


def said(text: str) -> list[str]:
    """Which of the words stand in a text."""
    return [word for word in WORDS if word in text]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("history", ["as-rendered", "as-asked"])
@pytest.mark.parametrize(
    ("turns", "marked", "expected"),
    [
        (1, (), ["FIVE"]),
        (2, (), ["THREE", "FIVE"]),
        (9, (), ["ONE", "THREE", "FIVE"]),
        (1, (5,), ["THREE"]),
        (2, (3,), ["ONE", "FIVE"]),
    ],
)
def test_the_last_turns_are_learned(
    name: str,
    history: str,
    turns: int,
    marked: tuple[int, ...],
    expected: list[str],
    speaking: Speaking,
    trl_template: Callable[[str], str],
) -> None:
    masking = LastAssistant.model_validate({"turns": turns, "history": history})
    assert said(learned(masking, speaking(trl_template(name)), unlearned=marked)) == expected


@pytest.mark.parametrize("name", NAMES)
def test_of_one_turn_what_is_learned_is_what_assistant_learns_of_it(
    name: str, speaking: Speaking, trl_template: Callable[[str], str]
) -> None:
    tokenizer = speaking(trl_template(name))
    of_last, of_marked = LastAssistant(), Assistant()
    assert learned(of_last, tokenizer) == learned(of_marked, tokenizer, unlearned=(1, 3))


def counted_by_hand(words: Sequence[str], numbers: Sequence[int], marked: Sequence[int]) -> list[str]:
    """The assistant's words of these numbers, told by walking over them from both ends."""
    answers = [(index, word) for index, word in enumerate(words) if index % 2]
    chosen: set[int] = set()
    for order, sign in ((answers, 1), (answers[::-1], -1)):
        chosen |= {index for number, (index, _) in enumerate(order, 1) if sign * number in numbers}
    return [word for index, word in answers if index in chosen and index not in marked]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("history", ["as-rendered", "as-asked"])
def test_turns_of_given_numbers_are_learned(
    name: str, history: str, speaking: Speaking, trl_template: Callable[[str], str]
) -> None:
    draw, tokenizer = random.Random(f"{name}{history}"), speaking(trl_template(name))
    for _ in range(12):
        numbers = draw.sample([-4, -3, -2, -1, 1, 2, 3, 4], draw.randint(1, 3))
        marked = tuple(draw.sample([1, 3, 5], draw.choice([0, 0, 1])))
        masking = ChosenTurns.model_validate({"turns": numbers, "history": history})
        expected = counted_by_hand(WORDS, numbers, marked)
        assert said(learned(masking, tokenizer, unlearned=marked)) == expected, (numbers, marked)


def test_turns_keep_their_numbers_where_a_row_is_made_several(
    speaking: Speaking, trl_template: Callable[[str], str]
) -> None:
    """`too_long = "split"` parts a conversation: the third turn is the first of its part, and the third."""
    from fttool.rows.lengths import fitted
    from fttool_plugins.batching.bucketed import Bucketed

    tokenizer = speaking(trl_template("llama3"))
    for numbers in ([1], [3], [2, -1], [-3], [1, 2, 3]):
        masking = ChosenTurns(turns=tuple(numbers))
        encode = masking.build(MaskingContext(tokenizer=tokenizer))
        (example,) = masking.split(Example(origin="test", messages=TALK, completion_from=5))
        whole = encode(example)
        for share in (0.4, 0.7):
            batching = Bucketed(max_length=int(share * len(whole.input_ids)), too_long="split")
            parts = fitted(example, whole, batching, encode).rows
            text = "".join(str(tokenizer.decode([t for t in row.labels if t != -100])) for row, _ in parts)
            assert said(text) == counted_by_hand(WORDS, numbers, ()), (numbers, share)


@pytest.mark.parametrize("turns", [[], [0], [1, 0], ["first"], 1])
def test_numbers_that_are_none_are_refused(turns: object) -> None:
    with pytest.raises(ValueError, match="turns"):
        ChosenTurns.model_validate({"turns": turns})


@pytest.mark.parametrize("name", NAMES)
def test_other_roles_are_learned_where_that_is_asked(
    name: str, speaking: Speaking, trl_template: Callable[[str], str]
) -> None:
    """Their words and nothing that the template writes around them."""
    tokenizer = speaking(trl_template(name))
    alone, with_user = learned(Assistant(), tokenizer), learned(Assistant(also=("user",)), tokenizer)
    assert said(alone) == ["ONE", "THREE", "FIVE"] and said(with_user) == WORDS
    for word in ("zero", "two", "four"):
        with_user = with_user.replace(word, "")
    assert with_user == alone
    assert said(learned(Assistant(also=("user",)), tokenizer, unlearned=(2, 3))) == ["zero", "ONE", "four", "FIVE"]


def test_also_and_as_asked_are_refused_together(tmp_path: Path) -> None:
    from tomli_w import dumps

    from fttool.errors import RecipeError
    from fttool.recipe.reading import load

    masking = {"name": "assistant", "also": ["user"], "history": "as-asked"}
    data = {"train": [{"path": "rows.jsonl"}]}
    tables = {"recipe": 1, "model": {"source": "builtin:tiny-chat"}, "task": "sft", "data": data, "masking": masking}
    (tmp_path / "my.toml").write_text(dumps(tables))
    with pytest.raises(RecipeError, match="which as-asked repeats"):
        load(tmp_path / "my.toml")
