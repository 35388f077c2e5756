"""Masks of chat templates, judged by an oracle of their own: `python tests/plugins/masking/corpus.py FOLDER …`.

Prints, for each `.jinja` file and each conversation below, whether the mask is right, refused or wrong, and why.

The oracle knows nothing of how masks are made: it has what transformers renders and tokenizes, and the learned tokens.
Every text of a conversation consists of one word that stands nowhere else, so a word says whose it is. Of the learned
text it asks

- that it holds each word of the assistant that the template writes, an answer once, and no word of anybody else;
- that each stretch of it begins where the prompt of inference ends, or where that opens a thought, white space aside;
- that beside those words only special tokens stand in it, words that one of these closes
  (`<|channel|>final<|message|>`), tags of thoughts, with words at a thought, and what makes a call;
- that no number stands beside them but in calls;
- that it ends in a special token, with nothing of the prompt of the next turn in it;
- that the tokens in front of the first answer are those that inference has.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from fttool.api import Example, MaskingContext
from fttool_plugins.masking.assistant import Assistant

WORD = re.compile(r"(?::?/+)?q(?P<number>[0-9])(?P<kind>[a-z])zb*")
"""A sentinel: `q`, the message's number, the kind of its text, `z`, and a `b` for each call before; slashes in front of
it are its own."""
MARKS = re.compile(
    r"<[|｜][^<>\s'\"{}]{1,40}?[|｜]?>|<[^<>\s'\"{}/|]{1,30}[|]>|<SPECIAL_\d+>|<(?:start|end)_of_\w+>|\[/?[A-Z_]{3,20}\]"
    r"|<sep>|<\w+:[be]os>|\[e~\[|\]~\w*\]|</?(?:assistant|user|system)>"
)
"""What special tokens look like in a template."""
ALWAYS = [
    *("<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>", "<|observation|>", "<|tool|>", "<|im_start|>"),
    *("<|im_end|>", "<|end|>", "<|endoftext|>", "<start_of_turn>", "<end_of_turn>", "<|tool_response>"),
]
OPENING = {"<|im_start|>", "<|start_header_id|>", "<start_of_turn>", "<|START_OF_TURN_TOKEN|>", "<|turn>", "<|start|>"}
"""Special tokens that only ever open a turn."""
RECIPIENT = "all\n"
"""What functionary's models write in front of an answer, and a tool's name in front of a call."""
THOUGHT = re.compile(r"[<\[][^<>\[\]\s]*(?:think|thought|reason|channel)[^<>\[\]\s]*[>\]]", re.IGNORECASE)


def user(place: int, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": f"q{place}uz", **more}


def said(place: int, text: str = "{}", **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text.format(f"q{place}az"), **more}


def thought(place: int) -> dict[str, Any]:
    return {"reasoning_content": f"q{place}rz"}


def calls(place: int, number: int = 1) -> dict[str, Any]:
    made = [
        {
            "type": "function",
            "id": f"call{place}abc{count}"[:9],
            "function": {"name": f"q{place}fz{'b' * count}", "arguments": {"city": f"q{place}vz{'b' * count}"}},
        }
        for count in range(number)
    ]
    return {"tool_calls": made}


def tool(place: int, caller: int, count: int = 0) -> dict[str, Any]:
    name = f"q{caller}fz{'b' * count}"
    return {"role": "tool", "content": f"q{place}tz", "name": name, "tool_call_id": f"call{caller}abc{count}"[:9]}


def parts(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**message, "content": [{"type": "text", "text": message["content"]}]} for message in messages]


TURNS = [user(0), said(1), user(2), said(3)]
CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "one turn": [user(0), said(1)],
    "three turns": [*TURNS, user(4), said(5)],
    "system": [{"role": "system", "content": "q9sz"}, *TURNS],
    "thoughts": [user(0), said(1, **thought(1)), user(2), said(3, **thought(3))],
    "thoughts in the text": [
        user(0),
        said(1, "<think>\nq1rz\n</think>\n\n{}"),
        user(2),
        said(3, "<think>\nq3rz\n</think>\n\n{}"),
    ],
    "call": [user(0), said(1, "", **calls(1)), tool(2, 1), said(3), user(4), said(5)],
    "call and words": [user(0), said(1, **calls(1)), tool(2, 1), said(3)],
    "calls": [user(0), said(1, "", **calls(1, 2)), tool(2, 1), tool(3, 1, 1), said(4)],
    "call at the end": [user(0), said(1, "", **calls(1))],
    "assistant first": [said(0), user(1), said(2)],
    "names": [user(0, name="q0nz"), said(1, name="q1nz"), user(2, name="q2nz"), said(3, name="q3nz")],
    "white space": [user(0), said(1, "  {} \n"), user(2), said(3, "\n\n {}")],
    "slash": [user(0), said(1, "/{}"), user(2), said(3, "://{}")],
    "parts": parts(TURNS),
}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "q8dz",
            "description": "q8ez",
            "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "q8pz"}}},
        },
    }
]


class Verdict(NamedTuple):
    """How the mask of one template and conversation is."""

    kind: str
    """`right`, `refused` (with a reason), `wrong`, or `-`: the template does not take such a conversation."""
    why: str = ""


def judge(tokenizer: PreTrainedTokenizerFast, name: str) -> Verdict:
    """The verdict on one of the conversations."""
    messages = CONVERSATIONS[name]
    template: dict[str, Any] = {"tools": TOOLS} if "call" in name else {}
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False, **template)
    except Exception as error:
        return Verdict("-", str(error))
    encode = Assistant().build(MaskingContext(tokenizer=tokenizer))
    try:
        encoded = encode(Example(origin="corpus", messages=tuple(messages), template=template))
    except ValueError as error:
        return Verdict("refused", str(error))
    whole = tokenizer.decode(encoded.input_ids)
    runs = list(_runs(tokenizer, encoded.input_ids, encoded.labels))
    faults = [
        *([] if whole.startswith(text) else ["another text than transformers writes"]),
        *_words(runs, messages, whole),
        *_prompts(runs, tokenizer, messages, template, encoded.input_ids, text),
        *(fault for run in runs for fault in _marks(run, tokenizer)),
    ]
    return Verdict("wrong", "; ".join(faults)) if faults else Verdict("right")


class Learned(NamedTuple):
    """Neighbouring tokens that are learned."""

    start: int
    """The first token."""
    ids: list[int]
    text: str


def _runs(tokenizer: PreTrainedTokenizerFast, ids: list[int], labels: list[int]) -> Iterator[Learned]:
    start = None
    for place, label in enumerate([*labels, -100]):
        if label != -100 and start is None:
            start = place
        elif label == -100 and start is not None:
            yield Learned(start, ids[start:place], tokenizer.decode(ids[start:place]))
            start = None


def _sentinels(text: str) -> list[str]:
    return [word.group() for word in WORD.finditer(text)]


def _words(runs: list[Learned], messages: list[dict[str, Any]], whole: str) -> Iterator[str]:
    """Faults in whose words are learned."""
    own = {
        word
        for message in messages
        if message["role"] == "assistant"
        for word in _sentinels(json.dumps({key: value for key, value in message.items() if key != "name"}))
    }
    learned = Counter(word for run in runs for word in _sentinels(run.text))
    written = Counter(_sentinels(whole))
    yield from (f"learned: {word}" for word in learned if word not in own)
    yield from (f"not learned: {word}" for word in own if written[word] and not learned[word])
    answers = [word for word in own if word.endswith("az")]
    yield from (f"learned {learned[word]} times: {word}" for word in answers if learned[word] > 1)


def _prompts(
    runs: list[Learned],
    tokenizer: PreTrainedTokenizerFast,
    messages: list[dict[str, Any]],
    template: dict[str, Any],
    ids: list[int],
    text: str,
) -> Iterator[str]:
    """Faults in where stretches begin: headers that are learned, tokens that inference does not have there."""
    begun: set[str] = set()
    for run in runs:
        found = WORD.search(run.text)
        if found is None:
            yield f"no word is learned in {run.text!r}"
            continue
        if found["number"] in begun:  # a message that goes on after the answer of the tool that it calls
            continue
        begun.add(found["number"])
        lead = run.text[: found.start()]
        if re.search(r"\b(assistant|model)\b", lead):
            yield f"the header {lead!r} is learned"
        head = messages[: int(found["number"]) + (messages[0]["role"] == "system")]
        try:
            asked = tokenizer.apply_chat_template(head, tokenize=False, add_generation_prompt=True, **template)
            unasked = tokenizer.apply_chat_template(head, tokenize=False, **template)
        except Exception:
            continue
        said = max((word.end() for word in WORD.finditer(asked)), default=0)
        thought = THOUGHT.search(asked, said)
        prompt = asked[: thought.start()] if thought else asked
        before = tokenizer.decode(ids[: run.start])
        header = prompt[said:].strip()
        if header and header in lead:
            yield f"the prompt {header!r} is learned"
        asks = asked != unasked and header and text.startswith(prompt)
        if asks and before.rstrip() != prompt.rstrip():
            yield f"what is learned begins after {before[-20:]!r}, the prompt of inference ends {prompt[-20:]!r}"
        if text.startswith(asked) and not thought and run is runs[0]:
            expected = tokenizer(asked, add_special_tokens=False)["input_ids"]
            if ids[: len(expected)] != expected:
                yield f"inference has other tokens in front of {found.group()}"


def _marks(run: Learned, tokenizer: PreTrainedTokenizerFast) -> Iterator[str]:
    """Faults in what is learned beside the assistant's words."""
    special = re.compile("|".join(map(re.escape, sorted(tokenizer.all_special_tokens, key=len, reverse=True))))
    words = list(WORD.finditer(run.text))
    for first, second in zip([None, *words], [*words, None], strict=True):
        gap = run.text[first.end() if first else 0 : second.start() if second else None]
        kinds = {word["kind"] for word in (first, second) if word}
        if kinds & set("fv"):  # a call's name and its argument
            continue
        parts = special.split(THOUGHT.sub("", gap))
        if any(letter.isdigit() for part in parts for letter in part):
            yield f"a number is learned: {gap!r}"
        at_answer = [parts[0] if first else "", parts[-1].removeprefix(RECIPIENT) if second else ""]
        if "r" not in kinds and "".join(at_answer).strip():
            yield f"words of the template are learned: {gap!r}"
    if run.ids[-1] not in tokenizer.all_special_ids:
        yield f"no special token ends {run.text[-30:]!r}"
    ends = special.findall(run.text[words[-1].end() :]) if words else []
    opened = run.text[len(run.text.rstrip()) :] or (ends[1:] and ends[-1] in OPENING)
    if opened:
        yield f"the next turn's prompt is learned: {run.text[-30:]!r}"


def tokenizer_for(template: str) -> PreTrainedTokenizerFast:
    """Bytes, and a token of its own for all that looks like one in the template."""
    inner = Tokenizer(models.BPE(vocab=_bytes(), merges=_merges()))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    marks = [
        mark
        for mark in MARKS.findall(template + _written(template))
        if not THOUGHT.fullmatch(mark) or "channel" in mark
    ]
    inner.add_special_tokens([AddedToken(mark, special=True) for mark in dict.fromkeys([*ALWAYS, *marks])])
    special = [mark for mark in dict.fromkeys(marks) if mark not in ("<s>", "</s>")]
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=list(dict.fromkeys([*ALWAYS[2:], *special])),
    )
    made.chat_template = template
    return made


def _written(template: str) -> str:
    """What the template writes: some make the names of their tokens of parts."""
    found: list[str] = []
    for messages in (CONVERSATIONS["three turns"], CONVERSATIONS["call"]):
        try:
            rendered = PreTrainedTokenizerFast(
                tokenizer_object=Tokenizer(models.BPE()), bos_token="<s>", eos_token="</s>"
            ).apply_chat_template(messages, tokenize=False, chat_template=template, tools=TOOLS)
        except Exception:
            continue
        found.append(str(rendered))
    return "".join(found)


def _bytes() -> dict[str, int]:
    """Every byte, and pairs that reach over where a prompt ends and an answer begins."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return {token: place for place, token in enumerate([*alphabet, *("".join(pair) for pair in _merges())])}


def _merges() -> list[tuple[str, str]]:
    space, line = "Ġ", "Ċ"
    return [(space, "q"), (line, line), (line, space), (":", "/"), ("/", "/"), (">", "/"), ("]", "/"), (space, space)]


def main(folders: list[str]) -> int:
    """The table of all templates in the folders; the number of wrong masks is the exit code, 100 at most."""
    total: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for file in sorted(path for folder in folders for path in Path(folder).rglob("*.jinja")):
        tokenizer = tokenizer_for(file.read_text())
        verdicts = {name: judge(tokenizer, name) for name in CONVERSATIONS}
        total.update(verdict.kind for verdict in verdicts.values())
        print(f"{file.name[:48]:48}", " ".join(f"{verdict.kind:>7}" for verdict in verdicts.values()))
        for name, verdict in verdicts.items():
            if verdict.kind in ("wrong", "refused"):
                print(f"    {verdict.kind} {name}: {verdict.why[:240]}")
            if verdict.kind == "refused":
                reasons[re.sub(r"'.*?'|\d", "…", verdict.why)[:70]] += 1
    print(dict(total))
    for reason, number in reasons.most_common():
        print(f"{number:5} {reason}")
    return min(total["wrong"], 100)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
