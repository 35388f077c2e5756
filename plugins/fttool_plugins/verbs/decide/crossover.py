"""From how many requests on fine-tuning costs less than a long prompt: arithmetic alone.

A prompted model is told in every request what a fine-tuned one has learned. So each request to the fine-tuned model
saves the price of the tokens that it needs no longer, and training, hosting and training again are what that has to pay
for. What is paid by the month is spread evenly over its requests.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

MILLION = 1e6
DAYS_A_MONTH = 365.25 / 12
HOURS_A_MONTH = 24 * DAYS_A_MONTH


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is assumed. Prices are dollars per million tokens unless they say otherwise."""

    prompt_tokens: float
    """Of a request to the prompted model."""
    tuned_prompt_tokens: float
    """Of a request to the fine-tuned one."""
    output_tokens: float = 0.0
    """Of an answer, whichever model writes it."""
    input_price: float
    cached_price: float = 0.0
    """Of prompt tokens that the provider has kept from earlier requests."""
    cached_share: float = 0.0
    """Of the prompted model's prompt tokens, so many cost `cached_price`; from 0 to 1."""
    output_price: float = 0.0
    tuned_input_price: float | None = None
    """Of the fine-tuned model; None: as for the prompted one."""
    tuned_output_price: float | None = None
    """Of the fine-tuned model; None: as for the prompted one."""
    hosting: float = 0.0
    """Of the fine-tuned model, in dollars per hour, asked or idle."""
    training: float
    """Dollars of one training."""
    retrain: float = 0.0
    """Trainings a month, after the first."""
    requests: float | None = None
    """A day; needed where something is paid by the month."""

    @property
    def prompted(self) -> float:
        """Dollars of a request to the prompted model."""
        price = self.cached_share * self.cached_price + (1 - self.cached_share) * self.input_price
        return (self.prompt_tokens * price + self.output_tokens * self.output_price) / MILLION

    @property
    def tuned(self) -> float:
        """Dollars of a request to the fine-tuned model, by its tokens alone."""
        price_in = self.input_price if self.tuned_input_price is None else self.tuned_input_price
        price_out = self.output_price if self.tuned_output_price is None else self.tuned_output_price
        return (self.tuned_prompt_tokens * price_in + self.output_tokens * price_out) / MILLION

    @property
    def monthly(self) -> float:
        """Dollars a month for hosting and for training again."""
        return self.hosting * HOURS_A_MONTH + self.retrain * self.training

    @property
    def monthly_share(self) -> float:
        """Dollars of `monthly` that fall on one request."""
        if not self.monthly:
            return 0.0
        assert self.requests, "what is paid by the month needs the requests of a day"
        return self.monthly / (self.requests * DAYS_A_MONTH)

    @property
    def saving(self) -> float:
        """Dollars that a request to the fine-tuned model saves; below 0 where it costs more."""
        return self.prompted - self.tuned - self.monthly_share


@dataclass(frozen=True, slots=True)
class Totals:
    """What so many requests cost, in dollars."""

    requests: float
    prompted: float
    tuned: float
    """Tokens, hosting and training again; the first training is not in it."""


def break_even(case: Case) -> float:
    """Requests after which the two have cost the same; infinite where fine-tuning never costs less."""
    saving = case.saving
    return case.training / saving if saving > 0 else math.inf


def break_even_days(case: Case) -> float | None:
    """The same in days; None where it is not known how many requests a day has."""
    return break_even(case) / case.requests if case.requests else None


def totals(case: Case, requests: float) -> Totals:
    """What so many requests cost either way."""
    return Totals(requests, requests * case.prompted, requests * (case.tuned + case.monthly_share))


def enough_requests(case: Case) -> float:
    """Requests a day above which fine-tuning begins to pay for what it costs by the month; infinite where none do."""
    by_tokens = case.prompted - case.tuned
    return case.monthly / (by_tokens * DAYS_A_MONTH) if by_tokens > 0 else math.inf


def why_never(case: Case) -> str:
    """In words, for a case that never breaks even."""
    if case.prompted <= case.tuned:
        compared = "as much as" if case.prompted == case.tuned else "no less than"
        return (
            f"a request to the fine-tuned model costs ${case.tuned:.6f} in tokens, {compared} one to the prompted "
            f"model (${case.prompted:.6f}): no number of requests pays for training"
        )
    saved = (case.prompted - case.tuned) * (case.requests or 0.0) * DAYS_A_MONTH
    return (
        f"hosting and training again cost ${case.monthly:,.2f} a month, and {case.requests:,.6g} requests a day save "
        f"${saved:,.2f} of it; it takes more than {math.floor(enough_requests(case)):,} requests a day"
    )


ASSUMPTIONS: Mapping[str, str] = {
    "prompt_tokens": "prompt tokens, prompted",
    "tuned_prompt_tokens": "prompt tokens, fine-tuned",
    "output_tokens": "tokens of an answer",
    "input_price": "price of input",
    "cached_price": "price of cached input",
    "cached_share": "cached share of the prompt",
    "output_price": "price of output",
    "tuned_input_price": "price of input, fine-tuned",
    "tuned_output_price": "price of output, fine-tuned",
    "hosting": "price of an hour's hosting",
    "training": "cost of training",
    "retrain": "trainings a month",
    "requests": "requests a day",
}
"""What can be wrong about a case, by field, in words."""


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What one assumption does to the break-even, in requests; infinite where it is never reached."""

    field: str
    value: float
    halved: float
    doubled: float

    @property
    def swing(self) -> float:
        """How far apart the two are, as a ratio of at least 1."""
        low, high = sorted((self.halved, self.doubled))
        if low == high:
            return 1.0
        return math.inf if math.isinf(high) or low <= 0 else high / low


def sensitivities(case: Case) -> list[Sensitivity]:
    """Each assumption halved and doubled, the others as they are; what matters most first, what does not matter left
    out.
    """
    found: list[Sensitivity] = []
    for name in ASSUMPTIONS:
        value = getattr(case, name)
        if not value:
            continue
        halved, doubled = (
            break_even(replace(case, **{name: min(1.0, by * value) if name == "cached_share" else by * value}))
            for by in (0.5, 2.0)
        )
        found.append(Sensitivity(name, value, halved, doubled))
    return sorted((one for one in found if one.swing > 1 + 1e-9), key=lambda one: -one.swing)
