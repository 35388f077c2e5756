"""No mask of a public chat template is wrong, by the oracle of `corpus.py`; and the oracle finds masks that are."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import trl

from fttool.api import Encoded
from fttool_plugins.masking.turns import Conversations

sys.path.insert(0, str(Path(__file__).parent))
from corpus import CONVERSATIONS, judge, tokenizer_for  # the script that judges any folder of templates

FOLDER = Path(trl.__file__).parent / "chat_templates"
NAMES = sorted(path.stem for path in FOLDER.glob("*.jinja") if not path.stem.endswith("_training"))
EXPECTED = (
    "leaves out the call of tool",  # the template cannot write calls
    "leaves out the text of message",  # it wants content in parts, or wants none beside a call
    "rewrites the text of message",  # it prints a list of parts as Python does
    "has no end",  # words after a tool's answer from which the next turn goes on
)
"""What refused conversations are refused for."""


@pytest.mark.parametrize("name", NAMES)
def test_masks_of_public_templates(name: str) -> None:
    tokenizer = tokenizer_for((FOLDER / f"{name}.jinja").read_text())
    verdicts = {conversation: judge(tokenizer, conversation) for conversation in CONVERSATIONS}
    assert [verdict for verdict in verdicts.items() if verdict[1].kind == "wrong"] == []
    for verdict in verdicts.values():
        assert verdict.kind != "refused" or any(reason in verdict.why for reason in EXPECTED), verdict
    right = [verdict.kind for verdict in verdicts.values()].count("right")
    assert right >= (1 if name in ("idefics3", "llava_next", "smolvlm") else 7)  # those three want content in parts


def shifted(encoded: Encoded, start: int, end: int) -> Encoded:
    """Every learned run with its borders moved by so many tokens."""
    labels = list(encoded.labels)
    on = [label != -100 for label in encoded.labels]
    for place in range(len(on)):
        near = [on[at] for at in range(max(0, place - end), min(len(on), place - start + 1))]
        labels[place] = encoded.input_ids[place] if any(near) else -100
    return Encoded(encoded.input_ids, labels, turns=encoded.turns)


@pytest.mark.parametrize(
    ("start", "end", "fault"),
    [(-12, 0, "header|prompt"), (0, 12, "learned: q2|no special token"), (0, -1, "")],
)
def test_the_oracle_finds_masks_that_are_wrong(
    start: int, end: int, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = Conversations.encode

    def wrong(self: Any, *args: Any, **more: Any) -> Encoded:
        encoded = encode(self, *args, **more)
        if end < 0:  # the last token of each run is left out
            labels = [
                label if label != -100 and (*encoded.labels, -100)[place + 1] != -100 else -100
                for place, label in enumerate(encoded.labels)
            ]
            return Encoded(encoded.input_ids, labels, turns=encoded.turns)
        return shifted(encoded, start, end)

    monkeypatch.setattr(Conversations, "encode", wrong)
    tokenizer = tokenizer_for((FOLDER / "qwen2_5.jinja").read_text())
    verdict = judge(tokenizer, "three turns")
    assert verdict.kind == "wrong"
    assert any(word in verdict.why for word in (fault or "no special token ends").split("|"))
