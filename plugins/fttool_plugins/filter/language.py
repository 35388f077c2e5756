"""`language`: keep rows in the languages that are wanted.

A few rows in another language teach a small model to answer in it. py3langid (Lui and Baldwin 2012, "langid.py", ACL
P12-3005) tells some 140 languages apart by bytes, in half a millisecond; lingua knows short texts a little better, but
is 96 MB and takes 20 seconds to load.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field
from typing_extensions import override

from fttool.api import Example, Filter, FilterContext, Problem, Reason, RowFilter, Verdict
from fttool_plugins.filter.parts import Part, part_text

if TYPE_CHECKING:
    from fttool.api import Recipe

INSTALL = "pip install 'fttool[language]'"
TAG = re.compile(r"<[^<>\n]{1,200}>")
CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+", re.DOTALL)
SIGNS = re.compile(r"[_/\\<>{}=()\[\]@#|+*~^$%&\d]")
"""Signs and digits: a word with one of them is in no language; nor are markup, addresses, and code in fences."""
PIECE = 80
"""Characters of a text's beginning, of its middle and of its end that are looked at."""
Language = Annotated[str, Field(pattern="^[a-z]{2,3}$")]


class InLanguage(Filter):
    """Keep rows whose answer is in one of `languages`, or in one that is common among the rows; drop those that are
    surely in another one.

    Code, markup, addresses and numbers are left out before a row is judged. What then is too short to say, or might
    be in one of the languages, is kept: of sentences of five words in another language about nine in ten are found, of
    single words none. Of two languages that are close, such as Norwegian and Danish, one may be taken for the other,
    and of a text in two languages the greater part decides. Of a text of more than 240 characters its beginning, its
    middle and its end are looked at.

    Needs py3langid, from the extra `fttool[language]`. Cost: about 0.5 ms a row, and 2 seconds to begin.
    """

    name: Literal["language"] = "language"
    languages: tuple[Language, ...] = ()
    """Codes of ISO 639, such as "en", "de" and "zh"; by default those that at least a tenth of the rows are in."""
    of: Part = "answer"
    """What is judged: what is learned (`answer`), what comes before it (`prompt`), or all that is said (`row`)."""
    certainty: Annotated[float, Field(gt=0, le=1)] = 0.7
    """How likely the other language must be for a row to be dropped: a probability, as py3langid has it."""
    shortest: Annotated[int, Field(ge=0)] = 20
    """Letters that must be left where code is left out, in bytes of UTF-8: 20 in English, 10 in Russian, 7 in Chinese.
    Shorter texts are kept."""

    @override
    def check(self, recipe: Recipe) -> Iterable[Problem]:
        if find_spec("py3langid") is None:
            yield Problem("the filter 'language' needs py3langid, which is not installed", hint=INSTALL)

    @override
    def build(self, ctx: FilterContext) -> RowFilter:
        def decide(examples: Sequence[Example]) -> list[Verdict]:
            identifier()  # loaded before processes share the rows
            told = list(ctx.each(self._told, examples, "telling languages apart"))
            wanted = self.languages or common(told)
            return [
                None if best is None or best in wanted else self._reason(example, wanted)
                for example, best in zip(examples, told, strict=True)
            ]

        return decide

    def _told(self, example: Example) -> str | None:
        """The most likely language; None for a text that is too short."""
        text = self._text(example)
        long_enough = len("".join(filter(str.isalpha, text)).encode()) >= self.shortest
        return str(identifier().classify(text)[0]) if long_enough else None

    def _text(self, example: Example) -> str:
        return excerpted(prose(part_text(example, self.of)))

    def _reason(self, example: Example, wanted: Collection[str]) -> Verdict:
        ranked: Mapping[str, float] = dict(identifier().rank(self._text(example)))
        best = next(iter(ranked))
        others = 1 - sum(probability for language, probability in ranked.items() if language in wanted)
        likely = min(ranked[best], others)
        return Reason(f"in another language ({best})", severity=likely) if likely >= self.certainty else None


def common(told: Sequence[str | None]) -> set[str]:
    """The languages that a tenth of the rows of which it can be said are in."""
    counts = Counter(filter(None, told))
    return {language for language, count in counts.items() if count >= counts.total() / 10}


@lru_cache(1)
def identifier() -> Any:
    """py3langid's model, with probabilities."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # pyright: ignore

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def excerpted(text: str) -> str:
    """A text of at most `3 * PIECE` characters; of a longer one its beginning, middle and end."""
    if len(text) <= 3 * PIECE:
        return text
    middle = (len(text) - PIECE) // 2
    return " ".join((text[:PIECE], text[middle : middle + PIECE], text[-PIECE:]))


def prose(text: str) -> str:
    """The text without what is in no language."""
    words = CODE.sub(" ", TAG.sub(" ", text)).replace("\ufffd", " ").split()
    return " ".join(word for word in words if word.isalpha() or not SIGNS.search(word))
