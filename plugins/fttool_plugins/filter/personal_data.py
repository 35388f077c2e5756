"""`personal-data`: drop rows that hold what identifies a person, or gives access to something.

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

from fttool.api import Example, Filter, FilterContext, RowFilter
from fttool_plugins.filter.parts import part_text, texts

Kind: TypeAlias = Literal["e-mail", "phone", "card", "iban", "ip", "key"]

EMAIL = re.compile(
    r"(?<![\w.+-])[\w.+-]{1,64}@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,24}(?![\w-])", re.IGNORECASE
)
PHONE = re.compile(
    r"(?<![\w+.])(?:"
    r"\+\d{1,3}[ .-]?(?:\(?\d{1,5}\)?[ .-]?){2,6}"  # +49 30 1234567
    r"|\(0?\d{2,4}\)[ .-]?\d{3,5}[ .-]?\d{2,5}"  # (030) 123 4567
    r"|\d{3}[ .-]\d{3}[ .-]\d{4}(?![\w.-])"  # 555-010-0123
    r")"
)
CARD = re.compile(r"(?<![\w.-])\d(?:[ -]?\d){12,18}(?![\w-])(?!\.\d)")
ISSUED = re.compile(
    r"4\d{12}(?:\d{3}){0,2}|5[1-5]\d{14}|2[2-7]\d{14}|3[47]\d{13}|3(?:0[0-5]|[689]\d)\d{11}|6(?:011|[245]\d\d)\d{12}"
)
"""The beginnings and lengths of the numbers that the large networks of cards issue."""
IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
ADDRESS = re.compile(
    r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?!\w|\.\w)"
    r"|(?<![\w.:])[23][0-9a-f]{3}(?::[0-9a-f]{0,4}){2,7}(?![\w:])",  # what is global begins with 2 or 3 (RFC 4291)
    re.IGNORECASE,
)
OWN = [
    ipaddress.ip_network(network)
    for network in ("0.0.0.0/8", "10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16")
]
"""Networks whose addresses are anybody's: those of a home, an office, the machine itself."""
KEY = re.compile(
    r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----"
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
    """Drop rows with e-mail addresses, phone or card numbers, IBANs, IP addresses, keys or tokens, wherever they stand.

    Found by their form, in any language; names and postal addresses are not found. A phone number needs its country's
    code, its area in brackets, or the usual American groups. A version of four numbers (1.2.3.4) is taken for an IP
    address.

    Cost: about 0.1 ms a row.
    """

    name: Literal["personal-data"] = "personal-data"
    kinds: Annotated[tuple[Kind, ...], Field(min_length=1)] = ("e-mail", "phone", "card", "iban", "ip", "key")
    """What is looked for. Of IP addresses those of private networks, such as 192.168.0.1, are nobody's."""

    @override
    def build(self, ctx: FilterContext) -> RowFilter:
        return lambda examples: [
            self._reason(all_text(example)) for example in ctx.track(examples, "looking for personal data")
        ]

    def _reason(self, text: str) -> str | None:
        return next((f"has {WORDS[kind]}" for kind in self.kinds if any(FINDERS[kind](text))), None)


WORDS: Mapping[Kind, str] = {
    "e-mail": "an e-mail address",
    "phone": "a phone number",
    "card": "a card number",
    "iban": "an IBAN",
    "ip": "an IP address",
    "key": "a key or token",
}


def all_text(example: Example) -> str:
    """Everything in a row: its turns with their calls and thoughts, and what the template is given beside them."""
    return "\n".join([part_text(example, "row"), *texts(example.template)])


def emails(text: str) -> Iterator[str]:
    """E-mail addresses."""
    yield from (match[0] for match in EMAIL.finditer(text))


def phones(text: str) -> Iterator[str]:
    """Phone numbers of 8 to 15 digits, the most that E.164 allows."""
    for match in PHONE.finditer(text):
        if 8 <= sum(map(str.isdigit, match[0])) <= 15:
            yield match[0].strip(" .-")


def cards(text: str) -> Iterator[str]:
    """Numbers that a network of cards issues, and whose check digit is right (ISO/IEC 7812)."""
    for match in CARD.finditer(text):
        digits = re.sub("[ -]", "", match[0])
        if ISSUED.fullmatch(digits) and luhn([int(digit) for digit in digits]):
            yield match[0]


def luhn(digits: Sequence[int]) -> bool:
    """True where the last digit is the check digit of the others: every second one, from the right, counts twice."""
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    return (sum(doubled) + sum(digits[-1::-2])) % 10 == 0


def ibans(text: str) -> Iterator[str]:
    """IBANs whose check digits are right: read as a number, letters as 10 to 35, it is 1 modulo 97 (ISO 13616)."""
    for match in IBAN.finditer(text):
        plain = match[0].replace(" ", "")
        number = "".join(str(int(character, 36)) for character in plain[4:] + plain[:4])
        if 15 <= len(plain) <= 34 and int(number) % 97 == 1:
            yield match[0]


def addresses(text: str) -> Iterator[str]:
    """IP addresses, but for those of private networks."""
    for match in ADDRESS.finditer(text):
        try:
            found = ipaddress.ip_address(match[0])
        except ValueError:
            continue
        if not any(found in network for network in OWN):
            yield match[0]


def keys(text: str) -> Iterator[str]:
    """Private keys, and tokens by the beginnings that their issuers give them."""
    yield from (match[0] for match in KEY.finditer(text))


FINDERS: Mapping[Kind, Callable[[str], Iterator[str]]] = {
    "e-mail": emails,
    "phone": phones,
    "card": cards,
    "iban": ibans,
    "ip": addresses,
    "key": keys,
}
