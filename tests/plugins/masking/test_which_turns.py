"""Which turns are learned: the last ones, and other roles' words, over trl's chat templates, told by words that occur
once each.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from fttool.api import Example, Masking, MaskingContext
from fttool_plugins.masking.assistant import Assistant
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
