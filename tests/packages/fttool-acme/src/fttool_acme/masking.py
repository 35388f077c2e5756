"""`acme.after`: learn the final answer alone, and not the way to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from fttool.api import Encoded, Example, Masking, MaskingContext, RowEncoder, chat_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
"""PyTorch's `ignore_index`: a label that is not learned."""


class After(Masking):
    """Learn what follows the last `marker` of a row, up to and including the token that ends the turn or the text.

    For answers such as "9 × 5 = 45, and 45 + 3 = 48.\\nAnswer: 48", of which the reasoning is another model's and only
    the result is to be learned; "####" is the marker of GSM8K. A row without the marker in its last turn is refused.
    """

    name: Literal["acme.after"] = "acme.after"
    marker: Annotated[str, Field(min_length=1)] = "Answer:"
    """The text after which learning begins; it is not learned itself."""

    def build(self, ctx: MaskingContext) -> RowEncoder:
        """Yield the encoder; it raises `ValueError` for a row without the marker, or with nothing after it."""
        return lambda example: encode(example, ctx.tokenizer, self.marker)


def encode(example: Example, tokenizer: PreTrainedTokenizerBase, marker: str) -> Encoded:
    """Tokens of the row and their labels: label_t = token_t after the marker, −100 elsewhere."""
    if len(example.messages) - 1 in example.unlearned:
        raise ValueError("the last turn is marked as not learned, so nothing is to be learned")
    last = str(example.messages[-1].get("content") or "") if example.messages else example.completion
    if not last.rpartition(marker)[2].strip() or marker not in last:
        raise ValueError(f"the last turn has nothing after a {marker!r}, so nothing is to be learned")
    if example.messages:
        text = chat_text(tokenizer, example.messages, **example.template)
    else:
        text = example.prompt + example.completion
    # A chat template writes BOS itself; to plain text the tokenizer adds it where it does.
    tokens = tokenizer(text, add_special_tokens=not example.messages, return_offsets_mapping=True, verbose=False)
    ids, starts = list(tokens["input_ids"]), [start for start, _ in tokens["offset_mapping"]]
    behind = text.rfind(marker) + len(marker)
    labels = [token if start >= behind else IGNORED for token, start in zip(ids, starts, strict=True)]
    if example.messages:
        ends = [place for place, label in enumerate(labels) if label in tokenizer.all_special_ids]
        for place in range(ends[0] + 1 if ends else len(ids), len(ids)):
            labels[place] = IGNORED  # what the template writes after the end of the turn is not the model's to say
    elif isinstance(tokenizer.eos_token_id, int):
        if ids[-1] != tokenizer.eos_token_id:
            ids, labels = [*ids, tokenizer.eos_token_id], [*labels, IGNORED]
        labels[-1] = tokenizer.eos_token_id
    return Encoded(ids, labels)
