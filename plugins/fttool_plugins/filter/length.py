"""`length`: keep rows that are neither too short nor too long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from typing_extensions import override

from fttool.api import Example, Filter, FilterContext, RowFilter
from fttool_plugins.filter.parts import Part, part_texts


class Length(Filter):
    """Keep rows of which a part has between `min` and `max` words, characters or tokens, both included.

    Calls and thoughts count, roles do not. Words are what white space separates, so count something else in languages
    that write without it. Tokens of a whole row are those that the chat template writes, its own signs included; those
    of a prompt or an answer are the text's alone. `batching.max_length` bounds whole rows too, and cuts them.

    Cost: words and characters next to nothing; tokens about 0.3 ms a row.
    """

    name: Literal["length"] = "length"
    unit: Literal["words", "characters", "tokens"] = "words"
    """What is counted; characters are Unicode's code points."""
    of: Part = "answer"
    """Of what: of what is learned (`answer`), of what comes before the completion (`prompt`), or of all (`row`)."""
    min: Annotated[int, Field(ge=0)] = 1
    """Fewest of them."""
    max: Annotated[int, Field(ge=0)] | None = None
    """Most of them; default: any number."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.max is not None and self.min > self.max:
            raise ValueError(f"min = {self.min} is more than max = {self.max}, so no row would be kept")
        return self

    @override
    def build(self, ctx: FilterContext) -> RowFilter:
        count = self._counter(ctx)
        subject = "" if self.of == "answer" else f"{self.of} of "

        def reason(example: Example) -> str | None:
            found = count(example)
            if found is not None and found < self.min:
                return f"{subject}fewer than {self.min} {self.unit}"
            if found is not None and self.max is not None and found > self.max:
                return f"{subject}more than {self.max} {self.unit}"
            return None

        return lambda examples: [reason(example) for example in ctx.track(examples, f"counting {self.unit}")]

    def _counter(self, ctx: FilterContext) -> Callable[[Example], int | None]:
        """From a row to its length; None where the chat template cannot write it, which is said of it later."""
        if self.unit == "tokens" and self.of == "row":
            return lambda example: written_length(example, ctx)
        measures: dict[str, Callable[[str], int]] = {
            "words": lambda text: len(text.split()),
            "characters": len,
            "tokens": lambda text: len(ctx.tokenizer(text, add_special_tokens=False)["input_ids"]),
        }
        measure = measures[self.unit]
        return lambda example: sum(map(measure, part_texts(example, self.of)))


def written_length(example: Example, ctx: FilterContext) -> int | None:
    """Tokens of the whole row; None where the chat template cannot write it."""
    try:
        return ctx.tokens(example)
    except ValueError:
        return None
