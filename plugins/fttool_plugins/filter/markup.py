"""`markup`: drop rows whose answer is partly the markup of a web page, or what stands around its text.

Pages that were fetched and not cleaned have tags, entities, and lines such as "Skip to content" in them, and a model
learns all of it.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import override

from fttool.api import Example, Filter, FilterContext, Reason, RowFilter, Verdict
from fttool_plugins.filter.parts import Part, part_text

NAMES = (
    "a|abbr|article|aside|b|blockquote|body|br|button|canvas|center|cite|dd|del|div|dl|dt|em|figcaption|figure|font"
    "|footer|form|h[1-6]|head|header|hr|html|i|iframe|img|input|ins|label|li|link|main|meta|nav|noscript|ol|option|p"
    "|picture|s|script|section|select|small|source|span|strike|strong|style|sub|sup|svg|table|tbody|td|textarea|tfoot|th"
    "|thead|title|tr|u|ul|video|wbr"
)
BBCODE = "url|img|b|i|u|quote|code|size|color"
MARKUP = (
    rf"(?is)<!--(?:(?!-->|<!--).)*-->|<(script|style)\b[^<>]*>(?:(?!</?\1).)*</\1\s*>"
    rf"|</?(?:{NAMES})(?:\s[^<>]*)?/?>|<!doctype[^<>]*>"
    r"|&(?:[a-z]{2,8}|#\d{2,6}|#x[0-9a-f]{2,6});"  # entities
    rf"|\[/(?:{BBCODE})\]|\[(?:{BBCODE})(?:=[^\[\]\n]*)?\](?=[^\[\]]*\[/)"
)
AROUND = (
    r"(?im)^[^\w\n]*(?:skip to (?:main )?content|(?:accept|manage|reject)(?: all)? cookies|privacy policy"
    r"|(?:we|this (?:web)?site) uses? cookies\b.*|cookie (?:policy|settings|preferences)"
    r"|terms (?:of (?:service|use)|and conditions|& conditions)|all rights reserved"
    r"|(?:copyright )?(?:©|\(c\)) ?\d{4}\b.*|(?:log|sign) ?(?:in|up)(?: (?:\W|or|to) ?.{0,30})?"
    r"|subscribe(?: (?:now|to (?:our|the) newsletter\b.*))?|share (?:this|on) .{0,40}|follow us\b.*|read more"
    r"|click here(?: (?:to|for|now)\b.{0,60})?|back to top|toggle navigation|(?:leave|post) a (?:comment|reply)"
    r"|related (?:posts|articles)|advertisement|previous post.*|next post.*|home ?[>»|/] ?.*|powered by \w+"
    r"|(?:please )?enable javascript\b.*|loading|\d+ comments?|share ?\W? ?tweet.*|print this page)[^\w\n]*$"
)
"""Lines that stand around the text of a page."""
CODE = r"(?s)(?:^|\n)[ \t]*(```|~~~).*?(?:\n[ \t]*\1|\Z)|`[^`\n]*`"
"""Code as Markdown writes it."""
ABOUT = (
    r"(?i)\b(?:x?html5?|xml|svg|css|jsx|tsx|vue|react|angular|tags?|mark-?up|web ?(?:site|page)s?|template|dom|scrap\w+"
    r"|beautifulsoup|xpath|javascript|entit(?:y|ies)|bbcode|e-?mail|parse\w*|escape\w*|code)\b"
)
"""What a question is about whose answer has markup on purpose."""


class Markup(Filter):
    """Drop rows of which more than `share` is markup: tags, entities, scripts, and lines that stand around a page's
    text, such as "Skip to content" and "Accept all cookies" (in English).

    Code in fences and ticks is left out of the count, and a row whose prompt is about web pages or code is kept. Tags
    are those of HTML, so generics (`List<String>`), templates and arrows are none. What is found is by characters; a
    page whose text is long and whose markup is short stays below the share.

    Cost: about 0.1 ms for an answer of 1,000 characters.
    """

    name: Literal["markup"] = "markup"
    share: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the characters, from 0 to 1, that may be markup."""
    of: Part = "answer"
    """What is looked at: what is learned (`answer`), what comes before it (`prompt`), or all that is said (`row`)."""

    @override
    def build(self, ctx: FilterContext) -> RowFilter:
        return lambda examples: list(ctx.each(self._verdict, examples, "looking for markup"))

    def _verdict(self, example: Example) -> Verdict:
        found = markup_share(part_text(example, self.of))
        if found <= self.share or (self.of == "answer" and re.search(ABOUT, part_text(example, "prompt"))):
            return None
        return Reason(f"more than {self.share:.0%} markup", severity=found)


def markup_share(text: str) -> float:
    """Characters of markup over all characters but those of code; 0 for a text that is all code."""
    text = re.sub(CODE, "", text).strip()
    rest = re.sub(MARKUP, "", text)
    around = sum(len(match[0]) for match in re.finditer(AROUND, rest))
    return (len(text) - len(rest) + around) / max(1, len(text))
