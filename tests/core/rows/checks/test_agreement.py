"""What inference sees against what training saw, on planted differences; the oracle is the templates' own text."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tomli_w import dumps

from fttool.cli import main
from fttool.contracts.rows import Encoded, Example, MaskingContext
from fttool.errors import ModelError
from fttool.plugins import Plugins
from fttool.recipe.reading import load
from fttool.rows.chat import CHATML
from fttool.rows.checks.agreement import Agreement, compare, refuse_difference, refuse_saved_difference
from fttool.rows.data import prepare
from fttool.testing import run_recipe, tiny_tokenizer

TURN = "{{ '<|im_start|>' + m['role'] + '\\n' + %s + '<|im_end|>\\n' }}"
STRIPS = (
    "{% for m in messages %}{% if m['role'] == 'assistant' and not loop.last %}"
    + TURN % "m['content'].split('</think>')[-1]"
    + "{% else %}"
    + TURN % "m['content']"
    + "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""Earlier turns lose their thoughts."""
OPENS = CHATML.replace("assistant\\n", "assistant\\n<think>\\n")
"""The generation prompt opens a thought."""
ENDS_APART = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] }}"
    "{{ '<unk>' if loop.last and m['role'] == 'assistant' else '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""The last answer ends in another token than those before it."""


def talk(*contents: str, origin: str = "rows.jsonl:1", **template: Any) -> Example:
    """A conversation whose user begins."""
    turns = [{"role": "assistant" if i % 2 else "user", "content": content} for i, content in enumerate(contents)]
    return Example(origin=origin, messages=tuple(turns), completion_from=len(turns) - 1, template=template)


def compared(template: str, examples: Sequence[Example], masking: Any = "assistant", **options: Any) -> Agreement:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    (strategy,) = [one for one in Plugins.of().family("masking") if one.id() == masking]
    made = strategy(**options)
    encode = made.build(MaskingContext(tokenizer=tokenizer))
    return compare(examples, made.split, encode, tokenizer)


@pytest.mark.parametrize("masking", ["assistant", "completion", "all"])
def test_what_agrees_is_not_found(masking: str) -> None:
    rows = [talk("Hi", "Hello."), talk("A", "B", "C", "D"), Example(origin="r:3", prompt="2 + 2 = ", completion="4")]
    found = compared(CHATML, rows, masking)
    assert (found.rows, found.last, found.earlier, list(found.findings())) == (3, (), (), [])


@pytest.mark.parametrize("masking", ["assistant", "completion", "all"])
def test_a_prompt_that_opens_a_thought_before_answers_without_one(masking: str) -> None:
    rows = [talk("Hi", "Hello."), talk("Hi", "<think>\nhm\n</think>\n\nHello.", origin="rows.jsonl:2")]
    found = compared(OPENS, rows, masking)
    assert (found.rows, len(found.last), len(found.earlier)) == (2, 1, 0)
    (difference,) = found.last
    assert difference.origin == "rows.jsonl:1" and difference.turn == 2
    assert (difference.inference, difference.training) == ("<think", "Hello.")
    assert difference.token == len("?user\nHi?\n?assistant\n")  # a token a character, `?` for a special one
    with pytest.raises(ModelError, match=r"1 of 2 rows \(50%\)") as refused:
        refuse_difference(found, "refuse")
    assert refused.value.exit_code == 5 and "template_difference" in str(refused.value)
    refuse_difference(found, "allow")


def test_earlier_turns_without_their_thoughts_are_a_note_and_as_asked_mends_it() -> None:
    thought = "<think>\nhm\n</think>\n\n"
    rows = [talk("Q", thought + "A", "R", thought + "B"), talk("Q", thought + "A")]
    found = compared(STRIPS, rows)
    assert (found.rows, len(found.last), len(found.earlier)) == (2, 0, 1)
    assert found.earlier[0].answer and found.earlier[0].turn == 2 and found.earlier[0].inference.startswith("<think")
    (finding,) = found.findings()
    assert 'history = "as-asked"' in finding.hint and "1 of 2 rows" in finding.message
    refuse_difference(found, "refuse")
    assert compared(STRIPS, rows, history="as-asked") == Agreement(3)


def test_only_turns_that_are_learned_count() -> None:
    thought = "<think>\nhm\n</think>\n\n"
    row = talk("Q", thought + "A", "R", thought + "B")
    assert compared(STRIPS, [row], "completion") == Agreement(1)


def test_turns_that_a_row_marks_as_not_learned_are_not_asked_for() -> None:
    thought = "<think>\nhm\n</think>\n\n"
    row = talk("Q", thought + "A", "R", "B", "S", thought + "C")
    assert len(compared(STRIPS, [row]).earlier) == 1
    marked = replace(row, unlearned=frozenset({1}))
    assert compared(STRIPS, [marked]) == Agreement(1)
    assert compared(STRIPS, [marked], history="as-asked") == Agreement(2)
    assert compared(STRIPS, [replace(row, unlearned=frozenset({1, 3, 5}))]) == Agreement(0)


def test_another_token_at_the_end_of_the_last_turn() -> None:
    found = compared(ENDS_APART, [talk("Q", "A", "R", "B")])
    assert (len(found.last), len(found.earlier)) == (0, 1)
    assert (found.earlier[0].inference, found.earlier[0].training[:1]) == ("<unk>", "<")


def test_template_variables_of_a_row_are_asked_with() -> None:
    opens = OPENS.replace("<think>\\n", "' ~ ('' if enable_thinking is false else '<think>\\n') ~ '")
    assert len(compared(opens, [talk("Q", "A")]).last) == 1
    assert compared(opens, [talk("Q", "A", enable_thinking=False)]) == Agreement(1)


DATED = (
    "{% if date_string is not defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "{{ '<|im_start|>system\nIt is ' + date_string + '.<|im_end|>\n' }}" + CHATML
)


def test_a_template_that_writes_the_date() -> None:
    """Only the rows that leave it to the clock are counted, and one that merely knows the clock is not dated."""
    rows = [talk("Q", "A", origin="r:1", date_string="1 May 2024"), talk("Q", "B", origin="r:2"), talk("Q", "C")]
    found = compared(DATED, rows)
    assert (found.dated, found.rows, found.last) == (("r:2", "rows.jsonl:1"), 3, ())
    (finding,) = found.findings()
    assert "writes the date of today into 2 of 3 rows (67%) (r:2)" in finding.message
    assert not compared("{% if never %}{{ strftime_now('%Y') }}{% endif %}" + CHATML, rows).dated


@pytest.mark.parametrize(("opens", "advice"), [("<think>\\n", "(reasoning_content)"), ("Note: ", "writes the turns")])
def test_the_remedy_is_that_of_the_difference(opens: str, advice: str) -> None:
    (finding,) = compared(CHATML.replace("assistant\\n", f"assistant\\n{opens}"), [talk("Q", "A")]).findings()
    assert advice in finding.hint and 'template_difference = "allow"' in finding.hint


def test_a_tokenizer_that_ends_every_prompt_by_itself() -> None:
    """The prompt of plain text would end in EOS."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = tiny_tokenizer()
    (strategy,) = [one for one in Plugins.of().family("masking") if one.id() == "completion"]
    encode = strategy().build(MaskingContext(tokenizer=tokenizer))
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="$A <|im_end|>", special_tokens=[("<|im_end|>", tokenizer.eos_token_id)]
    )
    found = compare([Example(origin="r:1", prompt="2 + 2 = ", completion="4")], strategy().split, encode, tokenizer)
    assert found.last[0].inference == "<|im_end|>" and found.last[0].turn is None


def test_a_row_is_compared_as_far_as_it_is_trained_on() -> None:
    tokenizer = tiny_tokenizer()
    row = Encoded([5, 6, 7, 8, 9], [-100] * 4 + [9])
    example = Example(origin="r:1", prompt="abcd", completion="e")
    differs = compare([example], lambda e: (e,), lambda e: row, tokenizer)
    assert differs.last[0].token == 0
    own = tokenizer("abXd")["input_ids"]
    for length, expected in ((2, 0), (3, 1), (None, 1)):
        row = Encoded([*own, 9], [-100] * 4 + [9])
        found = compare([example], lambda e: (e,), lambda e, row=row: row, tokenizer, length)
        assert len(found.last) == expected


def test_the_sample_is_by_the_seed_and_of_all_training_rows(tmp_path: Path) -> None:
    rows = [talk(f"Question {n}?", f"Answer {n}.") for n in range(300)]
    lines = [json.dumps({"messages": row.messages}) for row in rows]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))

    def sampled(seed: int) -> list[str]:
        recipe: dict[str, Any] = {"recipe": 1, "model": {"source": "builtin:tiny-chat"}, "run": {"seed": seed}}
        (tmp_path / "r.toml").write_text(dumps({**recipe, "data": {"train": [{"path": "rows.jsonl"}]}}))
        return [example.origin for example in prepare(load(tmp_path / "r.toml"), tiny_tokenizer(), first=3).sampled]

    assert sampled(1) == sampled(1) != sampled(2)
    assert len(set(sampled(1))) == 200


def test_conversations_become_a_row_a_learned_turn(tmp_path: Path) -> None:
    """What is learned of each row is its last turn, and together they are all learned turns; the naive twin renders."""
    draw = random.Random(3)
    talks = [talk(*(f"{n} {draw.random()}" for n in range(2 * draw.randint(1, 4)))) for _ in range(20)]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps({"messages": one.messages}) for one in talks))
    recipe: dict[str, Any] = {"recipe": 1, "model": {"source": "builtin:tiny-chat"}}
    recipe |= {"data": {"train": [{"path": "rows.jsonl"}]}, "masking": {"name": "assistant", "history": "as-asked"}}
    (tmp_path / "r.toml").write_text(dumps(recipe))
    tokenizer = tiny_tokenizer()
    rows = prepare(load(tmp_path / "r.toml"), tokenizer)
    expected: list[tuple[str, str]] = []
    for one in talks:
        for index in range(1, len(one.messages), 2):
            text = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in one.messages[: index + 1])
            expected.append((text, one.messages[index]["content"] + "<|im_end|>"))
    assert rows.split == sum(len(one.messages) > 2 for one in talks) and len(rows.train) == len(expected)
    for row, (text, learned) in zip(rows.train, expected, strict=True):
        assert tokenizer.decode(row.input_ids) == text
        assert tokenizer.decode([token for token in row.labels if token != -100]) == learned
    assert len(set(rows.train.origins)) == len(expected)


# -- a run ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def opening(fttool_recipe: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """A recipe whose template asks for a thought that no answer has."""
    (tmp_path / "opens.jinja").write_text(OPENS)
    recipe = {**fttool_recipe, "model": {**fttool_recipe["model"], "chat_template": "opens.jinja"}}
    (tmp_path / "opening.toml").write_text(dumps(recipe))
    return recipe


@pytest.mark.parametrize("words", [["run"], ["run", "--dry-run"], ["preview"]])
def test_every_way_to_look_at_rows_refuses(
    words: list[str], opening: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([words[0], str(tmp_path / "opening.toml"), *words[1:], "--set", f"run.output={tmp_path}/runs"]) == 5
    shown = capsys.readouterr()
    assert "'<think'" in shown.err and "(100%)" in shown.err and "opening.toml" in shown.err
    assert ("learned" in shown.out) == (words == ["preview"])
    assert not (tmp_path / "runs").exists()


def test_it_is_allowed_by_name_and_recorded(opening: dict[str, Any], tmp_path: Path) -> None:
    opening["model"]["template_difference"] = "allow"
    result = run_recipe(opening, tmp_path)
    assert result.exit_code == 0
    (event,) = [one for one in result.events if one["event"] == "template_difference"]
    assert event["last_turn_differs"] == event["rows"] == result.summary["inference"]["rows"] > 0
    assert event["first"][0]["inference"] == "<think"


def test_the_saved_folder_is_compared(
    fttool_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tokenizer that saves another template than it has."""
    from transformers import PreTrainedTokenizerFast

    save = PreTrainedTokenizerFast.save_pretrained

    def wrong(self: Any, folder: Any, **more: Any) -> Any:
        own = self.chat_template
        try:
            self.chat_template = CHATML.replace("'\\n' + message['content']", "'\\n ' + message['content']")
            return save(self, folder, **more)
        finally:
            self.chat_template = own

    monkeypatch.setattr(PreTrainedTokenizerFast, "save_pretrained", wrong)
    result = run_recipe(fttool_recipe, tmp_path)
    assert result.exit_code == 5 and "the saved tokenizer asks differently" in str(result.error)
    assert [one["event"] for one in result.events][-2:] == ["saved_difference", "ended"]
    assert result.summary["status"] == "failed"


def test_a_saved_tokenizer_that_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be loaded again"):
        refuse_saved_difference(tiny_tokenizer(), tmp_path, [talk("Q", "A")], trust_remote_code=False)
