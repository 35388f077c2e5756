"""One text or two as a model reads them whole: with the tokenizer's own special tokens, and cut so that these stay.

To cut off the end of `[CLS] … [SEP]` would take the `[SEP]` away, which the model has met in every text it was trained
on. So the tokenizer cuts, and of two texts the longer one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fttool.api import Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def encode_texts(
    tokenizer: PreTrainedTokenizerBase,
    first: str,
    second: str,
    max_length: int | None,
    classes: tuple[str, ...] = (),
) -> Encoded:
    """The tokens of a text, or of two, none of them learned; raises `ValueError` where none would be left of the text.

    Two texts become one with a line break where the tokenizer puts nothing between them.
    """
    special = tokenizer.num_special_tokens_to_add(pair=bool(second))
    if second and special == tokenizer.num_special_tokens_to_add(pair=False):
        first, second = f"{first}\n{second}", ""
    encoding: Any = _call(tokenizer, first, second)
    if len(encoding["input_ids"]) <= special:
        raise ValueError(f"the tokenizer makes no token of the text {first[:40]!r}")
    cut = False
    if max_length is not None and len(encoding["input_ids"]) > max_length:
        cut = True
        if max_length <= special:
            raise ValueError(f"max_length = {max_length} leaves no token of a text beside {special} special ones")
        encoding = _call(tokenizer, first, second, truncation=True, max_length=max_length)
        _call(tokenizer, first[:1], "")  # a fast tokenizer keeps how it cut last, and would save it
    ids = list(encoding["input_ids"])
    types = list(encoding["token_type_ids"]) if second and "token_type_ids" in encoding else None
    types = types if types and any(types) else None
    return Encoded(ids, [-100] * len(ids), classes=classes, token_types=types, cut=cut)


def _call(tokenizer: PreTrainedTokenizerBase, first: str, second: str, **options: Any) -> Any:
    plain: dict[str, Any] = {"truncation": False, "padding": False, "verbose": False}
    return tokenizer(first, second or None, **{**plain, **options})
