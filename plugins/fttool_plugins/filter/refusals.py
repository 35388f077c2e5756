"""`refusals`: drop rows in which the assistant declines, or speaks of itself instead of answering.

Rows from another model's answers have its refusals in them, and a model that learns from a few hundred declines what it
could do: they were taken out of ShareGPT's conversations by lists of phrases like these.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from typing_extensions import override

from fttool.api import Example, Filter, FilterContext, RowFilter

DO = (
    r"(?:help|assist|answer|provide|give|offer|share|support|fulfil+|comply|complete|continue|do (?:that|this|so)"
    r"|create|generate|write|produce|engage|participate|discuss|respond|process|access|browse|open|view|see|hear|read"
    r"|watch|tell|perform|execute|search|predict|advise|make (?:predictions|that|this)|condone|encourage|promote"
    r"|endorse|in good|be (?:able|of|used)|have|determine|verify|comment|speculate|take part|translate|summari[sz]e)\b"
)
CANNOT = (
    r"(?:can(?:no|')t|can not|could(?: no|n')t|will not|won't|am (?:not able|unable) to"
    r"|'m (?:not able|unable|afraid(?: that)? i can(?:no|')t)(?: to)?|am afraid(?: that)? i can(?:no|')t"
    r"|(?:do not|don't) feel comfortable|am not (?:allowed|permitted|programmed|designed) to"
    r"|'m not (?:allowed|permitted|programmed|designed|comfortable)(?: to)?)"
)
MACHINE = (
    r"(?:(?:large |ai |artificial intelligence |virtual |responsible |helpful |digital |text-based |machine )*"
    r"(?:language model|ai(?: (?:model|assistant|chatbot|chat bot|system|program))?|llm|chatbot|virtual assistant"
    r"|artificial intelligence))"
)
SORRY = (
    r"(?:i'?(?: a)?m (?:really |very |so |truly |deeply )?sorry|sorry|(?:my )?(?:sincere )?apolog(?:ies|y)"
    r"|i apologi[sz]e)"
)
REFUSALS = (
    # As an AI language model, …; as an AI developed by X, I …; but not: as an AI engineer
    rf"as an? (?:\w+ )?{MACHINE}(?: (?:developed|created|trained|made|designed|built) by [\w ]{{1,30}})?"
    r",? (?=(?:i|it|my|there|we|personal|expressing|unfortunately)\b)",
    rf"i(?: a|')m (?:just |only |merely |simply |actually )?an? (?:\w+ )?{MACHINE}\b(?! engineer| research)",
    rf"{SORRY}(?: for (?:any|the) (?:inconvenience|confusion|misunderstanding))?[,.!]?(?: but)?(?: unfortunately,?)? i"
    rf"(?: {CANNOT}|'m (?:not able|unable))(?: {DO}| to\b|[.!,]|$| with| \w+ (?:with )?(?:that|this|your|such))",
    rf"{SORRY}[,.!]?(?: but)?(?: (?:this|that|your) (?:request|question|prompt|content)\b"
    rf"| (?:as )?i(?: a|')m (?:just )?an? (?:\w+ )?{MACHINE}| as an? (?:\w+ )?{MACHINE})",
    rf"(?:unfortunately,? |regrettably,? )?i(?: {CANNOT}|'m (?:not able|unable) to) (?:\w+ly )?{DO}",
    r"i (?:do not|don't) (?:have|hold) (?:any )?(?:personal|access to (?:real|the internet|current|live|your)|real-time"
    r"|feelings|emotions|opinions|a physical|the ability to (?:access|browse|feel|see|open))",
    r"as of my (?:last|latest|most recent) (?:knowledge |training )?(?:update|cut-?off|training)",
    r"my (?:knowledge|training)(?: data)? (?:cut-?off|only goes|is (?:limited|current|up)|was last)",
    r"(?:it is|it's|it would be) (?:not |un|in)(?:appropriate|ethical|acceptable) (?:for me to\b"
    r"|to (?:discuss|provide|create|generate|engage|speculate|comment|promote|share|use (?:derogatory|offensive))\b)",
    r"i (?:must|have to|would like to|will) (?:respectfully |politely )?(?:decline|refuse)\b",
    r"(?:this|that|your) request (?:goes against|violates|is against|is not (?:appropriate|something i can))",
    r"als (?:ein )?(?:großes )?(?:ki|künstliche intelligenz|sprachmodell)(?:-\w+)?\b.{0,40}\b(?:kann|habe|bin) ich",
    r"(?:es )?tut mir leid, (?:aber )?(?:ich kann|das kann ich|dabei kann)\b",
    r"en tant qu(?:e|')\s?(?:modèle de langage|assistant virtuel|ia|intelligence artificielle)\b",
    r"(?:je suis )?désolé,? (?:mais )?je ne (?:peux|suis)",
    r"como (?:un )?(?:modelo de lengua(?:je)?|inteligencia artificial|asistente virtual|modelo de linguagem|ia)\b",
    r"lo siento,? (?:pero )?no puedo",
)
"""How refusals and words about oneself begin, in lower case and with straight apostrophes."""
OPENING = re.compile(r"[\s*_#>\-\u2013\u2014…]*")
"""What may stand before the first word: blanks and markup, and no quotation mark: what it opens somebody else says."""
SENTENCE = re.compile(r"[.!?\n]\s+|, (?:but |however,? |and )")
"""What ends a sentence, or a clause after which another may begin."""


def _regex(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"'{pattern}' is not a regular expression: {error}") from None
    return pattern


Regex = Annotated[str, AfterValidator(_regex), Field(min_length=1)]


class Refusals(Filter):
    """Drop rows in which an answer begins as a refusal, or with a phrase about the assistant itself.

    "As an AI language model …", "I'm sorry, but I can't help with that", in English, and the most common ones in
    German, French, Spanish and Portuguese. Each answer that is learned is looked at, and of it the beginning alone:
    what it says of refusals later, or quotes, makes no difference. Rows with classes are kept.

    It knows phrases and not meanings. A refusal in other words is kept, and so is one after a long introduction; and an
    answer that is meant to decline, as in rows that teach a model what not to do, is dropped.

    Cost: about 0.05 ms a row.
    """

    name: Literal["refusals"] = "refusals"
    patterns: tuple[Regex, ...] = ()
    """More beginnings, as regular expressions: matched where a sentence begins, whatever the case, with apostrophes
    made straight."""
    within: Annotated[int, Field(ge=1)] = 100
    """Characters from the beginning in which a phrase must begin."""

    @override
    def build(self, ctx: FilterContext) -> RowFilter:
        phrase = re.compile("|".join(f"(?:{one})" for one in (*REFUSALS, *self.patterns)), re.IGNORECASE)

        def refuses(answer: str) -> bool:
            text = answer.replace("’", "'")
            return any(phrase.match(text, start) for start in beginnings(text, self.within))

        def reason(example: Example) -> str | None:
            return "begins with a refusal" if any(map(refuses, answers(example))) else None

        return lambda examples: list(ctx.each(reason, examples, "looking for refusals"))


def answers(example: Example) -> Iterator[str]:
    """Each answer that is learned on its own; none of a row with classes."""
    if example.labels is not None:
        return
    yield example.completion
    for index, turn in enumerate(example.messages):
        if turn.get("role") == "assistant" and index not in example.unlearned:
            yield str(turn.get("content") or "")


def beginnings(text: str, within: int) -> Iterator[int]:
    """Where sentences and clauses begin in the first characters of a text, but for those that it quotes."""
    for start in (0, *(match.end() for match in SENTENCE.finditer(text, 0, within))):
        quoted = text.count('"', 0, start) % 2 or text.count("“", 0, start) > text.count("”", 0, start)
        if opening := None if quoted else OPENING.match(text, start):
            yield opening.end()
