"""One text or two as a model reads them whole: with the tokenizer's own special tokens, and cut so that these stay.

To cut off the end of `[CLS] … [SEP]` would take the `[SEP]` away, which the model has seen in every text it was trained
on. So the tokenizer cuts, and of two texts the longer one. What reads like a special token in a text can be made the
text that it is: a typed `[SEP]` would end the text where it does not end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fttool.api import Encoded
from fttool_plugins.masking.tokens import special_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def encode_texts(
    tokenizer: PreTrainedTokenizerBase,
    first: str,
    second: str,
    max_length: int | None,
    classes: tuple[str, ...] = (),
    *,
    as_text: bool,
) -> Encoded:
    """The tokens of a text, or of two, none of them learned; `as_text` makes text of what reads like a special token.

    Two texts become one with a line break where the tokenizer puts nothing between them. Raises `ValueError` where no
    token would be left of the text, and where the tokenizer cannot write a special token as text.
    """
    special = tokenizer.num_special_tokens_to_add(pair=bool(second))
    if second and special == tokenizer.num_special_tokens_to_add(pair=False):
        first, second = f"{first}\n{second}", ""
    encoding: Any = _call(tokenizer, first, second, split_special_tokens=as_text, return_special_tokens_mask=True)
    if as_text:
        _check_text(tokenizer, encoding)
    if len(encoding["input_ids"]) <= special:
        raise ValueError(f"the tokenizer makes no token of the text {first[:40]!r}")
    cut, whole = False, len(encoding["input_ids"])
    if max_length is not None and len(encoding["input_ids"]) > max_length:
        cut = True
        if max_length <= special:
            raise ValueError(f"max_length = {max_length} leaves no token of a text beside {special} special ones")
        encoding = _call(tokenizer, first, second, split_special_tokens=as_text, truncation=True, max_length=max_length)
        _call(tokenizer, first[:1], "")  # a fast tokenizer keeps how it cut last, and would save it
    ids = list(encoding["input_ids"])
    types = list(encoding["token_type_ids"]) if second and "token_type_ids" in encoding else None
    types = types if types and any(types) else None
    lost = {"tokens": whole - len(ids)} if cut else {}
    return Encoded(ids, [-100] * len(ids), classes=classes, token_types=types, cut=cut, lost=lost)


def _call(tokenizer: PreTrainedTokenizerBase, first: str, second: str, **options: Any) -> Any:
    plain: dict[str, Any] = {"truncation": False, "padding": False, "verbose": False}
    return tokenizer(first, second or None, **{**plain, **options})


def _check_text(tokenizer: PreTrainedTokenizerBase, encoding: Any) -> None:
    """Raise `ValueError` where a special token has been made of a text in spite of all."""
    unknown: Any = tokenizer.unk_token_id
    special = special_ids(tokenizer) - {unknown}
    for token, around in zip(encoding["input_ids"], encoding["special_tokens_mask"], strict=True):
        if token in special and not around:
            raise ValueError(
                f"the tokenizer cannot write {tokenizer.decode([token])!r} as text: it makes a token of it"
            )
