"""`personal-data`: drop, mask or flag what identifies a person, or gives access to something.

What a model has seen often enough it can be made to say (Carlini et al. 2021, "Extracting Training Data from Large
Language Models", arXiv 2012.07805). Patterns propose; where the kind has a checksum or a grammar of its own (Luhn's for
cards, ISO 13616's for IBANs, the address itself) that decides, so numbers that only look like one are kept.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Literal, TypeAlias

from pydantic import Field
from typing_extensions import override

from fttool.api import Example, Filter, FilterContext, Kept, RowFilter, Verdict
from fttool_plugins.filter.parts import all_text, rewritten

Kind: TypeAlias = Literal["e-mail", "phone", "card", "iban", "ip", "key"]
Place: TypeAlias = tuple[int, int]
"""Where something begins and ends (exclusive) in a text, in characters."""

EMAIL = r"(?i)(?<![\w.+-])[\w.+-]{1,64}@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,24}(?![\w-])"
PHONE = (
    r"(?<![\w+.])(?:"
    r"\+\d{1,3}[ .-]?(?:\(?\d{1,5}\)?[ .-]?){2,6}"  # +49 30 1234567
    r"|\(0?\d{2,4}\)[ .-]?\d{3,5}[ .-]?\d{2,5}"  # (030) 123 4567
    r"|\d{3}[ .-]\d{3}[ .-]\d{4}(?![\w.-])"  # 555-010-0123
    r")"
)
CARD = r"(?<![\w.-])\d(?:[ -]?\d){12,18}(?![\w-])(?!\.\d)"
ISSUED = (
    r"4\d{12}(?:\d{3}){0,2}|5[1-5]\d{14}|2[2-7]\d{14}|3[47]\d{13}|3(?:0[0-5]|[689]\d)\d{11}|6(?:011|[245]\d\d)\d{12}"
)
"""The beginnings and lengths of the numbers that the large networks of cards issue."""
IBAN = r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"
ADDRESS = (
    r"(?i)(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?!\w|\.\w)"
    r"|(?<![\w.:])[23][0-9a-f]{3}(?::[0-9a-f]{0,4}){2,7}(?![\w:])"  # what is global begins with 2 or 3 (RFC 4291)
)
OWN = [
    ipaddress.ip_network(network)
    for network in ("0.0.0.0/8", "10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16")
]
"""Networks whose addresses are anybody's: those of a home, an office, the machine itself."""
KEY = (
    r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----"
    r"(?:(?:(?!-----)[\s\S]){0,16384}-----END (?:[A-Z]+ )*PRIVATE KEY-----|(?:\s*[A-Za-z0-9+/=]{40,})*)"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|\bgh[pousr]_[A-Za-z0-9]{36,}\b"
    r"|\bgithub_pat_\w{40,}\b"
    r"|\bsk-(?:[a-z]+-)*[A-Za-z0-9_-]{20,}"
    r"|\bhf_[A-Za-z0-9]{30,}\b"
    r"|\bxox[abprs]-[A-Za-z0-9-]{10,}"
    r"|\bAIza[\w-]{35}\b"
    r"|\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"
)


class PersonalData(Filter):
    """Drop, mask or flag rows with e-mail addresses, phone or card numbers, IBANs, IP addresses, keys or tokens.

    Found by their form, in any language, wherever they stand: in calls, thoughts and documents too. Names and postal
    addresses are not found. A phone number needs its country's code, its area in brackets, or the usual American
    groups. A version of four numbers (1.2.3.4) is taken for an IP address.

    Evaluation and retention rows stay as they are; rows that `data.eval_share` sets aside are masked as all others.

    Cost: about 0.1 ms a row.
    """

    name: Literal["personal-data"] = "personal-data"
    kinds: Annotated[tuple[Kind, ...], Field(min_length=1)] = ("e-mail", "phone", "card", "iban", "ip", "key")
    """What is looked for. Of IP addresses those of private networks, such as 192.168.0.1, are nobody's."""
    action: Literal["drop", "mask", "flag"] = "drop"
    """What becomes of such a row: dropped, masked (what was found is replaced by `placeholder`, and all else stays), or
    only counted. A row whose words have classes is dropped where it would be masked: what is found may be half a word,
    or several."""
    placeholder: str = "[{kind}]"
    """What stands for what was found, the same in prompts, answers and calls; `{kind}` is its kind."""

    @override
    def build(self, ctx: FilterContext) -> RowFilter:
        return lambda examples: list(ctx.each(self._verdict, examples, "looking for personal data"))

    def _verdict(self, example: Example) -> Verdict:
        text = all_text(example)
        reason = next((f"has {WORDS[kind]}" for kind in self.kinds if any(found(kind, text))), None)
        if reason is None or self.action == "drop" or (self.action == "mask" and example.words):
            return reason
        masked = rewritten(example, self.masked) if self.action == "mask" else None
        # Between two texts that follow each other something may be found that stands in neither.
        return Kept(reason, masked) if masked != example else None

    def masked(self, text: str) -> str:
        """The text with what is found in it replaced; of two that overlap the one that begins first."""
        places = sorted((*place, kind) for kind in self.kinds for place in found(kind, text))
        masked, end = "", 0
        for start, stop, kind in places:
            if start >= end:
                masked, end = masked + text[end:start] + self.placeholder.replace("{kind}", kind), stop
            elif stop > end:
                end = stop
        return masked + text[end:]


WORDS: Mapping[Kind, str] = {
    "e-mail": "an e-mail address",
    "phone": "a phone number",
    "card": "a card number",
    "iban": "an IBAN",
    "ip": "an IP address",
    "key": "a key or token",
}


def emails(text: str) -> Iterator[Place]:
    """E-mail addresses."""
    yield from (match.span() for match in re.finditer(EMAIL, text))


def phones(text: str) -> Iterator[Place]:
    """Phone numbers of 8 to 15 digits, the most that E.164 allows."""
    for match in re.finditer(PHONE, text):
        if 8 <= sum(map(str.isdigit, match[0])) <= 15:
            yield match.start(), match.start() + len(match[0].rstrip(" .-"))


def cards(text: str) -> Iterator[Place]:
    """Numbers that a network of cards issues, and whose check digit is right (ISO/IEC 7812)."""
    for match in re.finditer(CARD, text):
        digits = re.sub("[ -]", "", match[0])
        if re.fullmatch(ISSUED, digits) and luhn([int(digit) for digit in digits]):
            yield match.span()


def luhn(digits: Sequence[int]) -> bool:
    """True where the last digit is the check digit of the others: every second one, from the right, counts twice."""
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    return (sum(doubled) + sum(digits[-1::-2])) % 10 == 0


def ibans(text: str) -> Iterator[Place]:
    """IBANs whose check digits are right: read as a number, letters as 10 to 35, it is 1 modulo 97 (ISO 13616)."""
    for match in re.finditer(IBAN, text):
        plain = match[0].replace(" ", "")
        number = "".join(str(int(character, 36)) for character in plain[4:] + plain[:4])
        if 15 <= len(plain) <= 34 and int(number) % 97 == 1:
            yield match.span()


def addresses(text: str) -> Iterator[Place]:
    """IP addresses, but for those of private networks."""
    for match in re.finditer(ADDRESS, text):
        try:
            found = ipaddress.ip_address(match[0])
        except ValueError:
            continue
        if not any(found in network for network in OWN):
            yield match.span()


def keys(text: str) -> Iterator[Place]:
    """Private keys, and tokens by the beginnings that their issuers give them."""
    yield from (match.span() for match in re.finditer(KEY, text))


NUMBER = re.compile(r"\d(?:[ .()-]{0,3}\d){7}")
BEGINNINGS = ("PRIVATE KEY", "AKIA", "ASIA", "github_pat_", "sk-", "hf_", "xox", "AIza", "eyJ")
MAY_HAVE: Mapping[Kind, Callable[[str], object]] = {
    "e-mail": lambda text: "@" in text,
    "phone": NUMBER.search,
    "card": NUMBER.search,
    "iban": re.compile(r"[A-Z]{2}\d{2}").search,
    "ip": re.compile(r"\d\.\d{1,3}\.\d|[23][0-9a-f]{3}:", re.IGNORECASE).search,
    "key": lambda text: any(mark in text for mark in BEGINNINGS) or re.search("gh[pousr]_", text),
}
"""A quick look, which is true of every text that has one of a kind, and of few others."""


def found(kind: Kind, text: str) -> Iterator[Place]:
    """Where a kind stands in a text."""
    return FINDERS[kind](text) if MAY_HAVE[kind](text) else iter(())


FINDERS: Mapping[Kind, Callable[[str], Iterator[Place]]] = {
    "e-mail": emails,
    "phone": phones,
    "card": cards,
    "iban": ibans,
    "ip": addresses,
    "key": keys,
}
