"""`json-valid`: how many answers are JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from typing_extensions import override

from fttool.api import Answer, Measure, Metric, MetricContext
from fttool_plugins.metric.normalised import mean, sum_and_count

if TYPE_CHECKING:
    from torch import Tensor

FENCED = re.compile(r"```(?:json)?\s*\n(.*)\n\s*```", re.DOTALL | re.IGNORECASE)


class JsonValid(Metric):
    """Share of evaluation rows whose prompt the model answers, greedily, with JSON and nothing around it (RFC 8259).

    What was cut at `evaluation.generate.max_tokens` is mostly not JSON any more, so leave room. What the JSON says is
    not looked at: `exact-match` compares it.
    """

    name: Literal["json-valid"] = "json-valid"
    greater_is_better: ClassVar[bool] = True
    generates: ClassVar[bool] = True
    fenced: bool = False
    """True: JSON in a Markdown fence counts too, where nothing stands around the fence."""
    kind: Literal["any", "object", "array"] = "any"
    """What the JSON must be: a number or a word in quotation marks is JSON too."""

    @override
    def build(self, ctx: MetricContext) -> Measure:
        return Measure(answers=self.valid, value=mean)

    def valid(self, answers: Sequence[Answer]) -> Tensor:
        """Answers that are JSON and their number, float64, shape (2,)."""
        return sum_and_count([float(self._is_json(answer.given.strip())) for answer in answers])

    def _is_json(self, text: str) -> bool:
        fence = FENCED.fullmatch(text) if self.fenced else None
        try:
            parsed: Any = json.loads(fence[1] if fence else text, parse_constant=_refuse)
        except (ValueError, RecursionError):
            return False
        return isinstance(parsed, {"any": object, "object": dict, "array": list}[self.kind])


def _refuse(name: str) -> None:
    """`NaN` and `Infinity`, which Python reads and JSON has not."""
    raise ValueError(name)
