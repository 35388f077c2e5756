"""Good conversations come through whole; each kind of bad one is refused with a sentence that says what to do."""

import json
import random
from functools import partial
from typing import Any

import pytest

from fttool.api import Example
from fttool_plugins.format.messages import Messages

from .reading import read_as, refused_as

USER = {"role": "user", "content": "Hi"}
ASSISTANT = {"role": "assistant", "content": "Hello"}
CALL = {"type": "function", "function": {"name": "now", "arguments": {}}}


read = partial(read_as, Messages)
refusal = partial(refused_as, Messages)


def test_a_conversation() -> None:
    turns = [{"role": "system", "content": "Be kind."}, USER, ASSISTANT, USER, ASSISTANT]
    example = read({"messages": turns, "id": 3})
    assert example == Example(origin="rows.jsonl:7", messages=tuple(turns), completion_from=4)
    assert example.answer() == "Hello\n\nHello"


def test_another_column() -> None:
    assert read({"chat": [USER, ASSISTANT], "messages": "other"}, column="chat").messages == (USER, ASSISTANT)


def test_the_assistant_may_speak_first() -> None:
    assert read({"messages": [ASSISTANT]}).completion_from == 0


def test_further_keys_of_a_turn_are_kept_and_the_row_is_left_alone() -> None:
    turns: list[dict[str, Any]] = [{**USER, "name": "Ada"}, {**ASSISTANT, "reasoning_content": "Greet."}]
    row = {"messages": turns}
    assert read(row).messages == tuple(turns)
    row["messages"][0]["content"] = [{"type": "text", "text": "Hi"}]
    assert read(row).messages[0] == {**USER, "name": "Ada"}
    assert row["messages"][0]["content"] == [{"type": "text", "text": "Hi"}]


def test_parts_of_text_are_joined_as_they_stand() -> None:
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo "}]
    assert read({"messages": [USER, {"role": "assistant", "content": parts}]}).messages[1]["content"] == "Hello "


@pytest.mark.parametrize("content", [{"content": None}, {"content": ""}, {}])
def test_a_turn_that_calls_tools_needs_no_content(content: dict[str, Any]) -> None:
    call = {"role": "assistant", "tool_calls": [CALL], **content}
    result = {"role": "tool", "content": "12:00"}
    example = read({"messages": [USER, call, result, result, ASSISTANT]})
    assert example.messages[1] == {**call, "content": content.get("content")}
    assert example.completion_from == 4


@pytest.mark.parametrize(
    ("columns", "template"),
    [
        ({}, {}),
        ({"tools": None, "chat_template_kwargs": None}, {}),
        ({"tools": []}, {}),
        ({"tools": [CALL]}, {"tools": [CALL]}),
        ({"tools": '[{"name": "now"}]'}, {"tools": [{"name": "now"}]}),
        (
            {"tools": [CALL], "chat_template_kwargs": {"enable_thinking": False}},
            {"tools": [CALL], "enable_thinking": False},
        ),
        ({"chat_template_kwargs": '{"enable_thinking": false, "n": null}'}, {"enable_thinking": False}),
        ({"chat_template_kwargs": {"tools": '[{"name": "now"}]'}}, {"tools": [{"name": "now"}]}),
    ],
)
def test_what_else_the_chat_template_gets(columns: dict[str, Any], template: dict[str, Any]) -> None:
    assert read({"messages": [USER, ASSISTANT], **columns}).template == template


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"tools": {"name": "now"}}, "'tools' must be a list, this is dict"),
        ({"tools": "now"}, "'tools' is text, and not JSON: "),
        ({"tools": ["[]"]}, "tool 1 of 'tools' must be an object, this is list"),
        ({"tools": [1]}, "tool 1 of 'tools' must be an object, this is int"),
        ({"tools": '[{"name": "f", "name": "g"}]'}, "'tools' is text, and not JSON: the key 'name' occurs twice"),
        ({"tools": '[{"name": NaN}]'}, "'tools' is text, and not JSON: NaN is not a number of JSON"),
        ({"tools": '[{"name": "\\ud800"}]'}, "'tools' is JSON text with half a character in it"),
        ({"chat_template_kwargs": "x"}, "'chat_template_kwargs' is text, and not JSON: "),
        ({"chat_template_kwargs": "[1]"}, "'chat_template_kwargs' must be an object, this is list"),
        (
            {"tools": [CALL], "chat_template_kwargs": {"tools": [CALL]}},
            "'tools' is both in the row and in its 'chat_template_kwargs'; drop one",
        ),
    ],
)
def test_what_the_chat_template_cannot_use(columns: dict[str, Any], sentence: str) -> None:
    assert refusal({"messages": [USER, ASSISTANT], **columns}).startswith(sentence)


# -- columns ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({}, "the row has no 'messages' (it has no columns)"),
        ({"id": 1, "body": "x"}, "the row has no 'messages' (its columns: 'id', 'body')"),
        (
            {"message": [USER]},
            "the row has no 'messages' (its columns: 'message'); "
            'try format = {name = "messages", column = "message"}',
        ),
        (
            {"prompt": "a", "completion": "b"},
            "the row has no 'messages' (its columns: 'prompt', 'completion'); "
            'it looks like format = "prompt-completion"',
        ),
        ({"text": "a"}, "the row has no 'messages' (its columns: 'text'); it looks like format = \"text\""),
        (
            {"conversations": [{"from": "human", "value": "Hi"}]},
            "the row has no 'messages' (its columns: 'conversations'); it looks like format = \"sharegpt\"",
        ),
        (
            {"conversations": [USER]},
            "the row has no 'messages' (its columns: 'conversations'); "
            'try format = {name = "messages", column = "conversations"}',
        ),
        (
            {"instruction": "a", "input": "", "output": "b"},
            "the row has no 'messages' (its columns: 'instruction', 'input', 'output'); "
            'it looks like format = "alpaca"',
        ),
        (
            {"instruction": "a", "input": "c", "output": "b"},
            "the row has no 'messages' (its columns: 'instruction', 'input', 'output'); "
            'it looks like format = "alpaca"',
        ),
        ({"messages": None}, "'messages' is null"),
        ({"messages": []}, "'messages' has no turns"),
        ({"messages": 3}, "'messages' must be a list of turns, this is int"),
        ({"messages": USER}, "'messages' must be a list of turns, this is dict"),
        (
            {"messages": '[{"role": "user"}]'},
            "'messages' is a string, not a list of turns; if it is JSON, unpack it into the row",
        ),
    ],
)
def test_wrong_columns(row: dict[str, Any], sentence: str) -> None:
    assert refusal(row) == sentence


# -- turns -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("turn", "sentence"),
    [
        ({"role": "gpt", "content": "x"}, "has the role 'gpt': rename it to 'assistant'"),
        ({"role": "human", "content": "x"}, "has the role 'human': rename it to 'user'"),
        ({"role": "function", "content": "x"}, "has the role 'function': rename it to 'tool'"),
        ({"role": "assitant", "content": "x"}, "has the role 'assitant': did you mean 'assistant'?"),
        ({"role": "ASSISTANT", "content": "x"}, "has the role 'ASSISTANT': did you mean 'assistant'?"),
        (
            {"role": "narrator", "content": "x"},
            "has the role 'narrator': known are system, developer, user, assistant, tool",
        ),
        (
            {"role": None, "content": "x"},
            "has the role None: known are system, developer, user, assistant, tool",
        ),
        ({"role": ["user"], "content": "x"}, "has the role ['user']: did you mean 'user'?"),
        ({"content": "x"}, "has no 'role' (its keys: 'content')"),
        (
            {"from": "gpt", "value": "x"},
            "has no 'role' (its keys: 'from', 'value'); try format = {name = \"sharegpt\", column = \"messages\"}",
        ),
        ("Hello", 'must be {"role": …, "content": …}, this is str'),
        (None, 'must be {"role": …, "content": …}, this is NoneType'),
    ],
)
def test_wrong_roles(turn: Any, sentence: str) -> None:
    assert refusal({"messages": [USER, turn]}) == f"turn 2 of 'messages' {sentence}"


@pytest.mark.parametrize("role", ["system", "user", "assistant", "tool"])
@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ({"content": None}, "is null"),
        ({"content": ""}, "is empty"),
        ({"content": " \n"}, "is empty"),
        ({"content": []}, "is empty"),
        ({"content": [{"type": "text", "text": ""}]}, "is empty"),
        ({"content": None, "tool_calls": []}, "is null"),
        ({}, "has no 'content'"),
    ],
)
def test_null_or_empty_content(role: str, content: dict[str, Any], fault: str) -> None:
    sentence = refusal({"messages": [USER, {"role": role, **content}, ASSISTANT]})
    assert sentence == (f"turn 2 of 'messages' ({role}) {fault}; only an assistant turn with tool_calls may go without")


def test_only_the_assistant_calls_tools() -> None:
    assert "is null" in refusal({"messages": [{"role": "user", "content": None, "tool_calls": [CALL]}, ASSISTANT]})


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (3, "turn 2 of 'messages' (assistant) must be text or a list of text parts, this is int"),
        ({"text": "x"}, "turn 2 of 'messages' (assistant) must be text or a list of text parts, this is dict"),
        (["x"], "part 1 of turn 2 of 'messages' (assistant) is of type 'str'; only text can be trained on"),
        (
            [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {}}],
            "part 2 of turn 2 of 'messages' (assistant) is of type 'image_url'; only text can be trained on",
        ),
        ([{"type": "text"}], "part 1 of turn 2 of 'messages' (assistant) has no 'text'"),
    ],
)
def test_content_that_is_no_text(content: Any, sentence: str) -> None:
    assert refusal({"messages": [USER, {"role": "assistant", "content": content}]}) == sentence


@pytest.mark.parametrize(
    ("turns", "sentence"),
    [
        ([USER], "the conversation has no assistant turn, so there is nothing to learn"),
        ([USER, USER, ASSISTANT], "turns 1 and 2 are both of the user; join them, or drop one"),
        ([USER, ASSISTANT, ASSISTANT], "turns 2 and 3 are both of the assistant; join them, or drop one"),
        (
            [USER, ASSISTANT, USER],
            "the conversation ends in the user; it must end in the assistant: drop the turn",
        ),
        (
            [USER, {**ASSISTANT, "tool_calls": [CALL]}, {"role": "tool", "content": "x"}],
            "the conversation ends in the tool; it must end in the assistant: drop the turn",
        ),
    ],
)
def test_the_order_of_turns(turns: list[Any], sentence: str) -> None:
    assert refusal({"messages": turns}) == sentence


# -- marks, nulls and the arguments of calls -------------------------------------------------------------------------

WRONG = {"role": "assistant", "content": "In Spain."}


@pytest.mark.parametrize(
    "mark",
    [
        {"weight": 0},
        {"weight": 0.0},
        {"train": False},
        {"training": False},
        {"trainable": False},
        {"loss": False},
        {"loss": 0},
        {"masked": True},
        {"masked": 1},
        {"weight": 0, "train": False, "masked": True, "loss": None},
    ],
)
def test_a_turn_that_is_marked_is_read_and_not_learned(mark: dict[str, Any]) -> None:
    example = read({"messages": [USER, {**WRONG, **mark}, USER, ASSISTANT]})
    assert example.messages == (USER, WRONG, USER, ASSISTANT)
    assert example.unlearned == {1}
    assert example.answer() == "Hello"


@pytest.mark.parametrize(
    "mark", [{}, {"weight": 1}, {"weight": 1.0}, {"train": True}, {"masked": False}, {"loss": True, "weight": None}]
)
def test_a_turn_that_is_marked_as_learned_is_as_ever(mark: dict[str, Any]) -> None:
    example = read({"messages": [USER, {**WRONG, **mark}, USER, ASSISTANT]})
    assert (example.messages, example.unlearned) == ((USER, WRONG, USER, ASSISTANT), frozenset())


@pytest.mark.parametrize(
    ("mark", "sentence"),
    [
        ({"weight": 0.5}, "weight 0.5, and a loss is not scaled by row or turn: write 1 to learn it or 0 not to"),
        ({"weight": 2}, "weight 2, and a loss is not scaled"),
        ({"weight": -1}, "weight -1, and a loss is not scaled"),
        ({"weight": "0"}, "must be 0, 1, true or false, this is the text '0'"),
        ({"train": "no"}, "must be 0, 1, true or false, this is the text 'no'"),
        ({"loss": [0]}, "must be 0, 1, true or false, this is list"),
        ({"weight": 1, "train": False}, "contradict each other: weight 1, train False"),
        ({"train_detail": [{"begin": 0, "end": 3}]}, "'train_detail': a turn is learned in full"),
        ({"loss_weight": 0}, "'loss_weight': a turn is learned in full"),
        ({"label": False}, "'label', which may say whether it is learned: write 'weight' 0 or 1"),
        ({"mask": True}, 'be ignored, beside the path: ignore = ["mask"]'),
        ({"Weight": 0}, "'Weight', which may say whether it is learned"),
        ({"train-on-turn": False}, "'train-on-turn', which may say whether it is learned"),
        ({"score": -1}, "'score', which may say whether it is learned"),
        ({"trainOnTurn": False}, "'trainOnTurn', which may say whether it is learned"),
        ({"isMasked": 1}, "'isMasked', which may say whether it is learned"),
        ({"loss_weights": [0]}, "'loss_weights': a turn is learned in full"),
        ({"skip_loss": True}, "'skip_loss', which may say whether it is learned"),
        ({"do_not_train": True}, "'do_not_train', which may say whether it is learned"),
        ({"message-weight": 0}, "'message-weight', which may say whether it is learned"),
        ({"is_correct": False}, "'is_correct', which may say whether it is learned"),
        ({"flagged": True}, "'flagged', which may say whether it is learned"),
    ],
)
def test_marks_that_nothing_can_obey(mark: dict[str, Any], sentence: str) -> None:
    said = refusal({"messages": [USER, {**WRONG, **mark}, USER, ASSISTANT]})
    assert sentence in said and "turn 2 of 'messages' (assistant)" in said


@pytest.mark.parametrize("beside", [{"is_correct": True}, {"flagged": False}, {"id": 3}, {"trained_by": "x"}])
def test_what_says_nothing_against_a_turn_is_kept(beside: dict[str, Any]) -> None:
    example = read({"messages": [USER, {**ASSISTANT, **beside}]})
    assert (example.messages, example.unlearned) == ((USER, {**ASSISTANT, **beside}), frozenset())


@pytest.mark.parametrize(
    ("mark", "sentence"),
    [
        ({"weight": 0}, "is marked as not learned: a turn is learned in full, or not at all"),
        ({"train": False}, "is marked as not learned: a turn is learned in full, or not at all"),
        ({"weight": 0.5}, "has weight 0.5, and a loss is not scaled"),
        ({"loss_mask": [0, 1]}, "'loss_mask': a turn is learned in full"),
        ({"isMasked": True}, "'isMasked', which may say whether it is learned"),
    ],
)
def test_marks_of_a_part_of_a_turn(mark: dict[str, Any], sentence: str) -> None:
    parts = [{"type": "text", "text": "WRONG", **mark}, {"type": "text", "text": "right"}]
    said = refusal({"messages": [USER, {"role": "assistant", "content": parts}]})
    assert said.startswith("part 1 of turn 2 of 'messages' (assistant)") and sentence in said
    unmarked = [{**parts[0], **dict.fromkeys(mark)}, {**parts[1], "weight": 1}]
    assert read({"messages": [USER, {"role": "assistant", "content": unmarked}]}).answer() == "WRONGright"


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
@pytest.mark.parametrize("tag", ["<think>", "\n<thinking>", "[THINK]", "<|START_THINKING|>"])
def test_a_thought_in_two_places(key: str, tag: str) -> None:
    answer = f"{tag}hm{tag.strip().replace('<', '</').replace('[', '[/').replace('</|START', '<|END')}yes"
    said = refusal({"messages": [USER, {"role": "assistant", "content": answer, key: "hm"}]})
    assert (
        said
        == f"turn 2 of 'messages' (assistant) has a thought in its content ({tag.strip()}) and in '{key}': keep one"
    )
    assert read({"messages": [USER, {"role": "assistant", "content": answer, key: " "}]}).answer() == answer
    assert read({"messages": [USER, {"role": "assistant", "content": f"`{tag}` is a tag", key: "hm"}]}).answer()


def merged(value: Any, twin: Any) -> Any:
    """A value as a table would give it: each object also has the keys of its twin, with null where it has none."""
    if isinstance(value, dict) and isinstance(twin, dict):
        return {key: merged(value[key], twin.get(key)) if key in value else None for key in {**value, **twin}}
    if isinstance(value, list) and isinstance(twin, list) and twin:
        return [merged(item, twin[min(place, len(twin) - 1)]) for place, item in enumerate(value)]
    return value


def called(arguments: Any) -> list[Any]:
    call = {"type": "function", "function": {"name": "weather", "arguments": arguments}}
    return [
        USER,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "1"},
        ASSISTANT,
    ]


def test_nulls_that_a_table_puts_there_reach_no_template() -> None:
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"properties": {"city": {}}}}}]
    plain = {"messages": called({"city": "Rome"}), "tools": tools}
    other = {
        "messages": [
            {**turn, "name": "x", "tool_calls": [{"id": "1"}]} for turn in called({"stop": 3, "at": {"x": 1}})
        ],
        "tools": [{"strict": True, "function": {"parameters": {"properties": {"stop": {}}, "required": []}}}],
    }
    table = merged(plain, other)
    assert table != plain and "null" in json.dumps(table)
    assert read(table) == read(plain)


def test_arguments_as_text_and_as_an_object_are_one_form() -> None:
    objects = read({"messages": called({"city": "Oslo", "n": None})})
    assert read({"messages": called('{"city": "Oslo"}')}) == objects
    assert read({"messages": called("")}) == read({"messages": called({})})
    assert read({"messages": called(None)}) == read({"messages": called({})})
    turns = called({"city": "Oslo"})
    whole = [turns[0], {**turns[1], "tool_calls": json.dumps(turns[1]["tool_calls"])}, *turns[2:]]
    assert read({"messages": whole}) == objects


def test_a_key_that_stands_twice_among_200_000_is_found_at_once() -> None:
    """With a look through all keys for each of them this would take minutes."""
    pairs = ", ".join(f'"k{number}": 1' for number in [*range(200_000), 199_999])
    with pytest.raises(ValueError, match="the key 'k199999' occurs twice in one object"):
        read({"messages": called(f"{{{pairs}}}")})


@pytest.mark.parametrize("seed", range(20))
def test_random_arguments_have_one_form_however_they_are_written(seed: int) -> None:
    """Against a twin that drops the nulls of objects before anything is written."""
    draw = random.Random(seed)

    def value(depth: int) -> Any:
        kind = draw.choice(["null", "text", "number", "list", "object"] if depth < 3 else ["null", "text"])
        if kind in ("list", "object"):
            some = [value(depth + 1) for _ in range(draw.randint(0, 3))]
            return some if kind == "list" else {f"k{n}": one for n, one in enumerate(some)}
        return {"null": None, "text": '{"n": null}', "number": draw.randint(-3, 3)}[kind]

    def bare(some: Any) -> Any:
        if isinstance(some, dict):
            return {key: bare(one) for key, one in some.items() if one is not None}
        return [bare(one) for one in some] if isinstance(some, list) else some

    given = {f"a{n}": value(0) for n in range(4)}
    plain = read({"messages": called(bare(given))})
    for written in (given, json.dumps(given), json.dumps(given, indent=2), f" {json.dumps(given)}\n"):
        assert read({"messages": called(written)}) == plain
    calls = called(json.dumps(given))[1]["tool_calls"]
    assert read({"messages": [USER, {**called({})[1], "tool_calls": json.dumps(calls)}, *called({})[2:]]}) == plain


@pytest.mark.parametrize(
    ("calls", "sentence"),
    [
        (
            [{"function": {"name": "f", "arguments": "Oslo"}}],
            "'arguments' of call 1 of turn 2 of 'messages' (assistant)",
        ),
        ([{"name": "f", "arguments": "[1]"}], "must be an object, this is list"),
        ([{"name": "f", "arguments": [1]}], "must be an object, this is list"),
        ([{"name": "f", "arguments": 3}], "must be an object, this is int"),
        ([{"name": "f", "arguments": '"{}"'}], "must be an object, this is str"),
        ([{"name": "f", "arguments": "{'n': 1}"}], "is text, and not JSON"),
        ([{"name": "f", "arguments": '{"n": 1, "n": 2}'}], "the key 'n' occurs twice in one object"),
        ([{"name": "f", "arguments": '{"n": Infinity}'}], "Infinity is not a number of JSON"),
        ({"name": "f"}, "'tool_calls' of turn 2 of 'messages' (assistant) must be a list of objects"),
        (["f"], "must be a list of objects"),
        ("f()", "is text, and not JSON"),
    ],
)
def test_calls_of_another_shape(calls: Any, sentence: str) -> None:
    turns = [
        USER,
        {"role": "assistant", "content": "", "tool_calls": calls},
        {"role": "tool", "content": "1"},
        ASSISTANT,
    ]
    assert sentence in refusal({"messages": turns})
