"""The tokens at which generation stops are the ends of what is learned, and none that would cut a turn in two."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from tokenizers import AddedToken

from fttool.contracts.rows import Encoded
from fttool.rows.chat import STOPS_FROM, stop_at, stop_ids
from fttool.testing.tiny import tiny_tokenizer


@pytest.fixture
def tokenizer() -> Any:
    made = tiny_tokenizer()
    made.add_tokens([AddedToken("<call|>", special=True), AddedToken("<tool>", special=True), AddedToken("<t>")])
    return made


def rows(tokenizer: Any, *texts: str) -> Any:
    """A row a text; what stands between ( and ) is learned."""
    made: list[Encoded] = []
    for text in texts:
        ids: list[int] = []
        labels: list[int] = []
        for place, part in enumerate(text.replace(")", "(").split("(")):
            tokens = tokenizer(part, add_special_tokens=False)["input_ids"]
            ids += tokens
            labels += tokens if place % 2 else [-100] * len(tokens)
        made.append(Encoded(ids, labels))
    return made


@pytest.mark.parametrize(
    ("texts", "stops"),
    [
        (["hi(ho<|im_end|>)", "a(b<tool>)c(d<|im_end|>)"], {"<|im_end|>", "<tool>"}),
        (["a(f<call|><tool>)b(c<|im_end|>)"], {"<|im_end|>", "<tool>"}),
        (["a(f<call|>)", "a(f<call|>g<call|>)b(c<|im_end|>)"], {"<|im_end|>"}),
        (["a(f<call|>)", "a(f<call|> <t>)b(c<|im_end|>)"], {"<|im_end|>"}),
        (["(a<|im_end|>\n<tool>)b(c<|im_end|>)"], {"<|im_end|>", "<tool>"}),
        (["(a<t>)b<|im_end|>"], set()),
        (["<|im_end|>(a)<|im_end|>(b)"], set()),
    ],
)
def test_stops_are_the_ends_of_turns(texts: list[str], stops: set[str], tokenizer: Any) -> None:
    found = stop_ids(tokenizer, rows(tokenizer, *texts))
    assert set(tokenizer.convert_ids_to_tokens(sorted(found))) == stops


def test_an_ending_that_is_seldom_is_found_in_many_rows(tokenizer: Any) -> None:
    many = rows(tokenizer, *["a(b<|im_end|>)"] * 90, *["a(f<tool>)"] * 10) * 40
    assert len(many) > STOPS_FROM
    assert len(stop_ids(tokenizer, many)) == 2
    assert len(stop_ids(tokenizer, many[:100])) == 2


def test_they_join_what_the_model_stops_at() -> None:
    for known, expected in ((None, [3, 7]), (5, [3, 5, 7]), ([7, 1], [1, 3, 7])):
        model: Any = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=known))
        stop_at(model, {7, 3})
        assert model.generation_config.eos_token_id == expected
