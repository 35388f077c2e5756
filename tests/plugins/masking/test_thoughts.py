"""Thoughts: whole or refused, learned or not, and empty ones counted; on templates of several families."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from fttool.api import Encoded, Example, MaskingContext
from fttool_plugins.masking.assistant import Assistant
from fttool_plugins.masking.completion import Completion
from fttool_plugins.masking.thoughts import EMPTY, check_thoughts

Speaking = Callable[[str], PreTrainedTokenizerFast]
USER = {"role": "user", "content": "What is 2 + 2?"}
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
ALWAYS = (
    "{%- for m in messages -%}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' -%}"
    "{%- set parts = m.content.split('</think>') if '</think>' in m.content else ['', m.content] -%}"
    "<think>\n{{ parts[0].replace('<think>', '').strip() }}\n</think>\n\n{{ parts[1].lstrip() }}"
    "{%- else -%}{{ m.content }}{%- endif -%}<|im_end|>\n{% endfor -%}"
    "{%- if add_generation_prompt -%}<|im_start|>assistant\n{% endif -%}"
)
"""Writes a thought in front of every answer, an empty one where it has none."""


def encoded(tokenizer: Any, answer: dict[str, Any], *more: dict[str, Any], **options: Any) -> Encoded:
    turns = (USER, {"role": "assistant", **answer}, *more)
    return Assistant(**options).build(MaskingContext(tokenizer=tokenizer))(Example(origin="r:1", messages=turns))


def learned(tokenizer: Any, row: Encoded) -> str:
    return tokenizer.decode([label for label in row.labels if label != -100])


# -- whole, or refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("Two and two.\n</think>\n\nFour.", "closes a thought that it has not opened"),
        ("<think>Two and two.\n\nFour.", "opens a thought and never closes it"),
        ("<think>a<think>b</think>Four.", "opens a thought within a thought"),
        ("<think>a</think></think>Four.", "closes a thought that it has not opened"),
        ("[THINK]Two and two. Four.", "opens a thought and never closes it"),
        ("Two and two.<|END_THINKING|>Four.", "closes a thought that it has not opened"),
        ("<Thinking>Two. Four.", "opens a thought and never closes it"),
        ("<seed:think>Two. Four.", "opens a thought and never closes it"),
        ("<|begin_of_thought|>Two. Four.", "opens a thought and never closes it"),
        ("Two.◁/think▷Four.", "closes a thought that it has not opened"),
        ("<thinking>Two.</think>Four.", "opens a thought by <thinking> and closes it by </think>"),
        ("<think>Two.[/THINK]Four.", r"opens a thought by <think> and closes it by \[/THINK\]"),
        ("<think>Two and two.</think>\n", r"has a thought \(<think>\) and no answer"),
    ],
)
@pytest.mark.parametrize("template", [CHATML, ALWAYS])
def test_thoughts_that_are_not_whole_are_refused(content: str, what: str, template: str, speaking: Speaking) -> None:
    with pytest.raises(ValueError, match=f"message 2 {what}"):
        encoded(speaking(template), {"content": content})


def test_a_thought_in_two_places_is_refused(speaking: Speaking, trl_template: Callable[[str], str]) -> None:
    answer = {"content": "<think>one</think>Four.", "reasoning_content": "another"}
    with pytest.raises(ValueError, match=r"in its content .* and in 'reasoning_content'"):
        encoded(speaking(trl_template("qwen3")), answer)


@pytest.mark.parametrize(
    "content",
    ["Four. <think>or five</think>", "<think>a</think>Four.<think>b</think>", "Close it with `</think>`."],
)
def test_a_template_that_splits_at_the_tag_gets_no_tag_elsewhere(
    content: str, speaking: Speaking, trl_template: Callable[[str], str]
) -> None:
    with pytest.raises(ValueError, match="message 2 "):
        encoded(speaking(trl_template("qwen3")), {"content": content})


@pytest.mark.parametrize(
    "content",
    [
        "Four.",
        "Close it with `</think>`.",
        "```xml\n<think>\n```\nis how it begins.",
        "The <reason> element has no end tag.",
        "<think>a</think>Four.",
        "Four. <think>or five</think>",
    ],
)
def test_what_is_text_is_learned_as_text(content: str, speaking: Speaking) -> None:
    """ChatML takes no notice of thoughts, so what is quoted or whole is as the row has it."""
    tokenizer = speaking(CHATML)
    assert learned(tokenizer, encoded(tokenizer, {"content": content})) == content + "<|im_end|>"


def test_turns_that_are_only_read_may_have_anything(speaking: Speaking) -> None:
    broken = {"role": "assistant", "content": "Two.</think>Four."}
    turns = (USER, broken, USER, {"role": "assistant", "content": "Four."})
    row = Completion().build(MaskingContext(tokenizer=speaking(CHATML)))(
        Example(origin="r:1", messages=turns, completion_from=3)
    )
    assert row.turns == (3,)


def test_content_in_parts_is_not_looked_into() -> None:
    check_thoughts({"role": "assistant", "content": [{"type": "text", "text": "</think>"}]}, 2, "")


# -- learned, or not -----------------------------------------------------------------------------------------------

THOUGHT = {
    "qwen3": "<think>\nTwo and two.\n</think>\n\n",
    "gptoss": "<|channel|>analysis<|message|>Two and two.<|end|>",
    "qwen3_5_think": "<think>\nTwo and two.\n</think>\n\n",
}
"""What each template writes of a thought."""


@pytest.mark.parametrize("name", list(THOUGHT))
def test_a_thought_is_learned_or_skipped_whole(
    name: str, speaking: Speaking, trl_template: Callable[[str], str]
) -> None:
    tokenizer = speaking(trl_template(name))
    answer = {"content": "It is four.", "reasoning_content": "Two and two."}
    rows = {way: encoded(tokenizer, answer, thoughts=way) for way in ("learn", "skip", "skip-empty")}
    assert rows["learn"] == rows["skip-empty"] and not rows["learn"].remarks
    assert rows["skip"].input_ids == rows["learn"].input_ids
    whole = learned(tokenizer, rows["learn"])
    assert whole.startswith(THOUGHT[name]) and "It is four." in whole
    assert learned(tokenizer, rows["skip"]) == whole.removeprefix(THOUGHT[name])


def test_a_thought_within_content_is_skipped_too(speaking: Speaking) -> None:
    tokenizer = speaking(CHATML)
    row = encoded(tokenizer, {"content": "<think>Two.</think> Four."}, thoughts="skip")
    assert learned(tokenizer, row).strip() == "Four.<|im_end|>"


@pytest.mark.parametrize("name", ["qwen3", "qwen3_5_think", "glm4moe", ALWAYS])
def test_empty_thoughts_are_counted_or_skipped(
    name: str, speaking: Speaking, trl_template: Callable[[str], str]
) -> None:
    """The naive twin: with `<think>` and `</think>` in what is learned, and nothing between."""
    tokenizer = speaking(trl_template(name) if name != ALWAYS else ALWAYS)
    row = encoded(tokenizer, {"content": "It is four."})
    between = learned(tokenizer, row).partition("<think>")[2].partition("</think>")
    assert between[1] and not between[0].strip()
    assert row.remarks == (EMPTY,)
    skipped = encoded(tokenizer, {"content": "It is four."}, thoughts="skip-empty")
    assert skipped.input_ids == row.input_ids and skipped.remarks == ()
    assert learned(tokenizer, skipped).lstrip().startswith("It is four.")
    assert "think" not in learned(tokenizer, skipped)


def test_an_answer_in_a_channel_is_not_a_thought(speaking: Speaking, trl_template: Callable[[str], str]) -> None:
    tokenizer = speaking(trl_template("gptoss"))
    more = (USER, {"role": "assistant", "content": "Five."})
    for way in ("learn", "skip", "skip-empty"):
        assert "Four." in learned(tokenizer, encoded(tokenizer, {"content": "Four."}, *more, thoughts=way))
        assert not encoded(tokenizer, {"content": "Four."}, thoughts=way).remarks
