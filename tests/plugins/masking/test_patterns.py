"""What a pattern and a few looks at the tokens give is what following every row and reading all offsets gives.

The twin is the same encoder without its memory of renders, which asks transformers for the tokens and reads the offsets
of all of them.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trl
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from fttool.api import Encoded, Example, MaskingContext, RowEncoder
from fttool_plugins.masking import patterns, tokens, turns
from fttool_plugins.masking.assistant import Assistant
from fttool_plugins.masking.patterns import Patterns
from fttool_plugins.masking.writing import Writer

sys.path.insert(0, str(Path(__file__).parent))
from corpus import tokenizer_for

FOLDER = Path(trl.__file__).parent / "chat_templates"
ASKS = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
TURN = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ SAID }}<|im_end|>\n{% endfor %}" + ASKS
OWN = {
    "whole": TURN.replace("SAID", "m.content"),
    "trimmed": TURN.replace("SAID", "m.content | trim"),
    "looks at what is said": TURN.replace("SAID", "m.content if 'a' in m.content else (m.content | upper)"),
    "counts what is said": TURN.replace("SAID", "m.content ~ '<|im_end|>' ~ (m.content | length)"),
    "cut": TURN.replace("SAID", "m.content[:3] ~ m.content[3:]"),
    "twice": TURN.replace("SAID", "m.content ~ m.content"),
    "the last one again": TURN.replace("SAID", "m.content") + "{{ messages[-1].content }}",
    "a space and a word at the border": "{% for m in messages %}{% if m.role == 'user' %}USER: {{ m.content }} "
    "{% else %}ASSISTANT: {{ m.content }}</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}",
    "thoughts": TURN.replace(
        "SAID", "('<think>' ~ m.reasoning_content ~ '</think>' if m.reasoning_content else '') ~ m.content"
    ),
    "empty thoughts": TURN.replace("SAID", "('<think></think>' if m.role == 'assistant' else '') ~ m.content"),
}
PUBLIC = ("qwen2_5", "qwen3", "llama3", "gemma3", "phi3", "glm4moe", "deepseekv3", "gptoss", "cohere", "smolvlm")
WORDS = [
    "a",
    "the",
    "Hi",
    "is",
    "assistant",
    "\n",
    "\n\n",
    "  ",
    "?",
    "é",
    "你好",
    "👋🏽",
    "\u200b",
    "\xa0",
    "\x1c",
    "<",
]
RARE = [
    "<think>a plan</think>\n\nyes",
    "<think></think>",
    "</think>",
    "<|im_end|>",
    "</s>",
    "[x]",
    "`<think>`",
    " \u200b",
]


def template(name: str) -> str:
    return OWN[name] if name in OWN else (FOLDER / f"{name}.jinja").read_text()


def said(draw: random.Random) -> str:
    if draw.random() < 0.06:
        return draw.choice(["", " ", "\n"])
    words = (" " if draw.random() < 0.7 else "").join(draw.choices(WORDS, k=draw.randrange(1, 7)))
    return draw.choice(RARE) + draw.choice([words, ""]) if draw.random() < 0.1 else words


def row(draw: random.Random) -> Example:
    messages: list[dict[str, Any]] = [{"role": "system", "content": said(draw)}] if draw.random() < 0.2 else []
    for _ in range(draw.choice([1, 1, 2])):
        answer = {"role": "assistant", "content": said(draw)}
        kind = draw.random()
        if kind < 0.15:
            answer["reasoning_content"] = said(draw)
        elif kind < 0.2:
            answer["name"] = draw.choice(["bob", "eve"])
        messages += [{"role": "user", "content": said(draw)}, answer]
        if draw.random() < 0.05:
            messages.append({"role": "assistant", "content": said(draw)})
    variables = {"enable_thinking": draw.random() < 0.5} if draw.random() < 0.15 else {}
    unlearned = frozenset(index for index in range(len(messages)) if draw.random() < 0.05)
    return Example(origin="rows.jsonl:1", messages=tuple(messages), template=variables, unlearned=unlearned)


def outcome(encode: RowEncoder, example: Example) -> Encoded | tuple[str, str]:
    try:
        return encode(example)
    except ValueError as wrong:
        return type(wrong).__name__, str(wrong)


def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget renders, and have transformers make the tokens."""
    monkeypatch.setattr(Patterns, "add", lambda *_: None)
    monkeypatch.setattr(tokens, "_only_hands_on", lambda _: False)


def sentencepiece() -> Tokenizer:
    """With a space in front of a text that stands alone, bytes for what it does not know, and a greedy end of turn."""
    marks = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<unk>"]
    pieces = [*marks, *(f"<0x{byte:02X}>" for byte in range(256)), *"▁aeHithsnu?<>|", "▁a", "▁H", "is"]
    vocabulary = {piece: place for place, piece in enumerate(dict.fromkeys(pieces))}
    merges = [("▁", "a"), ("▁", "H"), ("i", "s")]
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True, unk_token="<unk>"))
    replaced = [normalizers.Replace("\u200b", ""), normalizers.Replace(" ", "▁")]
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), *replaced])
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    made.add_special_tokens([AddedToken(m, special=True, normalized=False, rstrip=m == "<|im_end|>") for m in marks])
    return made


def small_letters() -> Tokenizer:
    """It changes letters, takes accents off and leaves white space out."""
    marks = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "[UNK]"]
    words = [*marks, *"aehistnu?<>|", "hi", "is", "the", "assistant", "user", "##s", "##i"]
    made = Tokenizer(models.WordPiece({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in marks])
    return made


KINDS: dict[str, Callable[[], Tokenizer]] = {"sentencepiece": sentencepiece, "small letters": small_letters}


@pytest.mark.parametrize(
    "options",
    [{}, {"thoughts": "skip"}, {"thoughts": "skip-empty", "control_tokens": "text"}, {"also": ("user",)}],
    ids=str,
)
@pytest.mark.parametrize("name", [*OWN, *PUBLIC])
def test_random_rows_are_those_of_the_slow_way(
    name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer, draw = tokenizer_for(template(name)), random.Random(name + str(options))
    same_as_the_slow_way(tokenizer, [row(draw) for _ in range(25)], options, monkeypatch)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", OWN)
def test_and_so_with_other_kinds_of_tokenizers(name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=KINDS[kind](), bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template, draw = template(name), random.Random(name)
    same_as_the_slow_way(tokenizer, [row(draw) for _ in range(40)], {}, monkeypatch)


def same_as_the_slow_way(
    tokenizer: PreTrainedTokenizerFast, rows: list[Example], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = Assistant(**options).build(MaskingContext(tokenizer=tokenizer))
    found = [outcome(quick, example) for example in rows]
    slow(monkeypatch)
    twin = Assistant(**options).build(MaskingContext(tokenizer=tokenizer))
    assert found == [outcome(twin, example) for example in rows]
    monkeypatch.undo()
    backwards = Assistant(**options).build(MaskingContext(tokenizer=tokenizer))
    assert [outcome(backwards, example) for example in reversed(rows)] == found[::-1]


@pytest.mark.parametrize("name", ["whole", "trimmed", "qwen2_5", "qwen3"])
def test_rows_of_one_form_are_followed_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or this would be a test of two slow ways."""
    followed, write = list[int](), Writer.write
    monkeypatch.setattr(Writer, "write", lambda *args, **more: (followed.append(1), write(*args, **more))[1])
    encode = Assistant().build(MaskingContext(tokenizer=tokenizer_for(template(name))))

    def talk(number: int) -> Example:
        return Example(
            origin="",
            messages=({"role": "user", "content": f"a {number}"}, {"role": "assistant", "content": f"{number} is"}),
        )

    for number in range(2):
        encode(talk(number))
    before = len(followed)
    monkeypatch.setattr(turns.Conversations, "_found", lambda *_: pytest.fail("turns were looked for again"))
    monkeypatch.setattr(tokens.Tokens, "offsets", property(lambda _: pytest.fail("all offsets were read")))
    for number in range(2, 30):
        encode(talk(number))
    assert len(followed) == before


def test_no_more_forms_are_remembered_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "FORMS", 3)
    monkeypatch.setattr(patterns, "PATTERNS", 2)
    memory, writer = Patterns(), Writer(tokenizer_for(OWN["looks at what is said"]))
    for number in range(12):
        for word in ("a", "b", "c", "ab"):
            messages = [{"role": "user", "content": f"{word}{number}"}]
            written = writer.write(messages, {"number": number})
            memory.add(messages, {"number": number}, written)
            filled = memory.filled(messages, {"number": number}, written.text)
            assert filled is None or filled.written == written
            known = memory._known  # pyright: ignore[reportPrivateUsage]
            assert len(known) <= 3 and max(map(len, known.values()), default=0) <= 2
