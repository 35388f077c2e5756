"""`encoding`: drop, repair or flag rows whose text was broken on its way.

A model learns to write `donâ€™t` from rows that have it, and each broken character costs several tokens. What is
invisible is learned as well: zero-width spaces, signs that turn the direction of writing, NUL.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias

from pydantic import Field
from typing_extensions import override

from fttool.api import Example, Filter, FilterContext, Kept, RowFilter, Verdict
from fttool_plugins.filter.mojibake import has_mojibake, repaired
from fttool_plugins.filter.parts import all_text, rewritten

Fault: TypeAlias = Literal["mojibake", "replacement", "control", "invisible"]

REPLACEMENT = "[\ufffd\ufffe\uffff\ud800-\udfff]"
"""What a decoder writes for bytes that it cannot read, what is not a character, and halves of pairs (surrogates)."""
CONTROL = "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"
"""Control characters but for tab, line feed and carriage return."""
LATIN = "\x00-\u024f"
INVISIBLE = (
    "[\ufeff\u00ad\u180e\u2061-\u2064\u206a-\u206f\ufff9-\ufffb]"  # byte order mark, soft hyphen, and their like
    f"|(?:(?<=[{LATIN}])|(?<![\\s\\S]))[\u200b-\u200d\u2060]|[\u200b-\u200d\u2060](?=[{LATIN}]|$)"
)
"""Zero-width signs count next to Latin letters, blanks and signs only: Persian, Hindi, Thai and emoji need them."""
FLAG = "\U0001f3f4"
TAGS = "[\U000e0001-\U000e007f]"
"""Signs that spell text which nobody sees; behind a black flag they say whose it is."""
DIRECTION = "[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
RIGHT_TO_LEFT = "[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]"
"""Scripts that are written from the right, where signs for the direction are in place."""

WORDS: Mapping[Fault, str] = {
    "mojibake": "has mojibake",
    "replacement": "has replacement characters (U+FFFD)",
    "control": "has control characters",
    "invisible": "has invisible characters",
}


class Encoding(Filter):
    """Drop, repair or flag rows with mojibake (UTF-8 read as another encoding), or with characters that nobody typed.

    All that is said is looked at, calls, thoughts and documents too. Mojibake is that of Windows-1252 and Latin-1, by
    far the most common, once or several times over. A text that shows mojibake on purpose is found too, and of a
    letter on its own it cannot always be said.

    Evaluation and retention rows stay as they are.

    Cost: about 0.05 ms a row.
    """

    name: Literal["encoding"] = "encoding"
    faults: Annotated[tuple[Fault, ...], Field(min_length=1)] = ("mojibake", "replacement", "control", "invisible")
    """What is looked for: mojibake (`donâ€™t`), what stands for a byte that could not be read (U+FFFD), control
    characters but for tabs and line breaks, and what is invisible: byte order marks, soft hyphens, zero-width signs
    where no script needs them, and signs for the direction of writing in a text without a script that runs from the
    right."""
    action: Literal["drop", "repair", "flag"] = "drop"
    """What becomes of such a row: dropped, repaired (mojibake read again as it was meant, control and invisible
    characters taken out; a row in which some is beyond repair is dropped), or only counted."""

    @override
    def build(self, ctx: FilterContext) -> RowFilter:
        return lambda examples: list(ctx.each(self._verdict, examples, "looking at characters"))

    def _verdict(self, example: Example) -> Verdict:
        reason = self._reason(all_text(example))
        if reason is None or self.action == "drop":
            return reason
        if self.action == "flag":
            return Kept(reason)
        mended = rewritten(example, self._repaired)
        return Kept(reason, mended) if self._reason(all_text(mended)) is None and mended != example else reason

    def _reason(self, text: str) -> str | None:
        if text.isascii() and not re.search(CONTROL, text):
            return None
        return next((WORDS[fault] for fault in self.faults if _has(fault, text)), None)

    def _repaired(self, text: str) -> str:
        if "mojibake" in self.faults:
            text = repaired(text)
        if "control" in self.faults:
            text = re.sub(CONTROL, "", text.replace("\x85", "\n"))
        if "invisible" in self.faults:
            text = re.sub(INVISIBLE, "", text)
            text = text if FLAG in text else re.sub(TAGS, "", text)
            text = text if re.search(RIGHT_TO_LEFT, text) else re.sub(DIRECTION, "", text)
        return text


def _has(fault: Fault, text: str) -> bool:
    match fault:
        case "mojibake":
            return has_mojibake(text)
        case "replacement":
            return re.search(REPLACEMENT, text) is not None
        case "control":
            return re.search(CONTROL, text) is not None
        case "invisible":
            turned = re.search(DIRECTION, text) is not None and not re.search(RIGHT_TO_LEFT, text)
            tagged = re.search(TAGS, text) is not None and FLAG not in text
            return turned or tagged or re.search(INVISIBLE, text) is not None
