"""Answers that decline, or speak of the assistant itself, are dropped; answers about refusing are kept."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from pydantic import ValidationError

from fttool.api import Example
from fttool.testing import filter_context
from fttool_plugins.filter.refusals import Refusals

DATA = Path(__file__).parents[3] / "recipes" / "data"
REASON = "begins with a refusal"

REFUSING = """
As an AI language model, I cannot help with fact 7.
As an AI language model, it is not possible for me to predict the weather.
As a large language model trained by OpenAI, I don't have feelings.
As an AI, I do not have personal preferences, but many people like blue.
As an artificial intelligence, I have no body.
As an AI assistant I can't browse the internet.
I'm sorry, but I can't help with that.
I’m sorry, but I can’t assist with that request.
I'm sorry, I cannot fulfill this request.
I am sorry, but I am unable to provide medical advice.
I'm really sorry, but I can't do that.
I'm sorry, but I can't.
Sorry, I can't help you with this.
Sorry, but as an AI language model I cannot have opinions.
I apologize, but I cannot generate that content.
My apologies, but I'm not able to continue this conversation.
I cannot provide you with instructions for that.
I can't assist with that.
I can't help with creating malware.
I am not able to access real-time data.
I'm unable to open links or files.
I'm just a language model, so I can't help you with that.
I'm an AI and do not eat.
I do not have personal opinions or beliefs.
I don't have access to the internet.
I must decline to answer.
I won't provide that information.
I will not engage in this.
Unfortunately, I cannot answer this question.
Hello! As an AI language model, I have no favourite colour.
Thank you for asking. I'm sorry, but I can't share that.
**I'm sorry**, but I can't help with that.
It is not appropriate for me to discuss this.
As of my last knowledge update in 2021, there was no such film.
My knowledge cutoff is September 2021.
Als KI-Sprachmodell kann ich dazu nichts sagen.
Es tut mir leid, aber ich kann dabei nicht helfen.
En tant que modèle de langage, je ne peux pas répondre.
Je suis désolé, mais je ne peux pas vous aider.
Lo siento, pero no puedo ayudarte con eso.
Como modelo de lenguaje, no tengo opiniones.
""".strip().splitlines()

ANSWERING = """
To refuse politely, say: "I'm sorry, but I can't help with that."
"As an AI language model" is a phrase that many models begin with.
A refusal often begins with “I'm sorry, but I can't”.
Models decline such requests because they were trained to. They say that they cannot help.
As an AI engineer, I would begin with the data.
As an AI researcher you read many papers.
As an aid to memory, write it down.
I can't believe how good this book is!
I can't wait to see you on Friday.
I cannot recommend this restaurant enough.
I'm sorry to hear that. Try restarting the router first.
I'm sorry for your loss. Here is a letter that you could send.
I'm sorry, but I can't make it to the meeting on Friday. Could we move it to Monday?
Sorry, that was wrong: the answer is 4.
I am afraid of spiders.
I do not have a dog.
I have no idea who wrote it first, but it was printed in 1623.
It is not appropriate to wear white at a wedding.
Unfortunately, the file cannot be opened while another program holds it.
My knowledge of French is good.
The method raises ValueError if it cannot help it.
Sure! Here is how a chatbot may decline: it says that it cannot help.
Apologies are short: say what went wrong and what you will do.
Als Erstes kann ich das Buch empfehlen.
Lo siento mucho.
""".strip().splitlines()


def row(*answers: str) -> Example:
    asked = {"role": "user", "content": "?"}
    turns = [turn for answer in answers for turn in (asked, {"role": "assistant", "content": answer})]
    return Example(origin="rows.jsonl:1", messages=tuple(turns), completion_from=1)


@pytest.mark.parametrize("answer", REFUSING)
def test_a_refusal_is_dropped(answer: str) -> None:
    assert Refusals().build(filter_context())([row(answer), row("One.", answer)]) == [REASON, REASON]


@pytest.mark.parametrize("answer", ANSWERING)
def test_an_answer_is_kept(answer: str) -> None:
    assert Refusals().build(filter_context())([row(answer)]) == [None]


def test_planted_refusals_are_found_among_real_answers() -> None:
    """Precision and recall on answers about Python and chats of all kinds, with a refusal planted in every tenth."""
    files = ("stdlib-qa.jsonl", "instructions.jsonl")
    lines = [line for name in files for line in (DATA / name).read_text(encoding="utf-8").splitlines()]
    texts = [str(json.loads(line).get("messages", [{}])[-1].get("content", "")) for line in lines][:2000]
    draw = random.Random(0)
    planted = set(draw.sample(range(len(texts)), len(texts) // 10))
    rows = [row(draw.choice(REFUSING) if n in planted else text) for n, text in enumerate(texts)]
    verdicts = Refusals().build(filter_context())(rows)
    found = {n for n, verdict in enumerate(verdicts) if verdict}
    assert planted <= found
    assert len(found - planted) <= len(texts) / 200, [texts[n][:120] for n in found - planted]


def test_only_the_beginning_counts_and_only_what_is_learned() -> None:
    decide = Refusals().build(filter_context())
    assert decide([row("It works like this. " * 10 + "I'm sorry, but I can't help with more.")]) == [None]
    marked = Example(origin="r:1", messages=row(REFUSING[0], "Yes.").messages, unlearned=frozenset([1]))
    asked = Example(origin="r:1", messages=({"role": "user", "content": REFUSING[0]},))
    classes = Example(origin="r:1", prompt=REFUSING[0], labels=("refusal",))
    assert decide([marked, asked, classes]) == [None, None, None]
    assert decide([Example(origin="r:1", prompt="?", completion=REFUSING[0])]) == [REASON]


def test_more_phrases_can_be_given() -> None:
    decide = Refusals(patterns=(r"computer says (?:no|nein)\b",), within=20).build(filter_context())
    assert decide([row("Well. Computer says NO."), row(REFUSING[0]), row("The computer says no.")]) == [
        REASON,
        REASON,
        None,
    ]
    with pytest.raises(ValidationError, match="is not a regular expression"):
        Refusals(patterns=("(",))


def test_hostile_texts_take_no_time() -> None:
    for text in ("as an ai " * 10_000, "i'm sorry " * 10_000, "sorry, " * 10_000, "* " * 30_000, "large ai " * 10_000):
        Refusals(within=100_000).build(filter_context())([row(text)])
