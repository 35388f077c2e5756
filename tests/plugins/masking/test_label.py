"""Texts with the tokenizer's own special tokens, which a cut leaves in place."""

from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from fttool.api import Encoded, Example, Masking, MaskingContext, RowEncoder
from fttool_plugins.masking.label import Label
from fttool_plugins.task.classifying import classify, reads_as_text

from ...encoder import WORDS, tokenizer


def encode(
    first: str,
    second: str = "",
    max_length: int | None = None,
    using: Any = None,
    labels: tuple[str, ...] | None = ("x",),
    control: Any = "refuse",
) -> Encoded:
    context = MaskingContext(tokenizer=using or tokenizer(), max_length=max_length)
    return Label(control_tokens=control).build(context)(
        Example(origin="r:1", prompt=first, second=second, labels=labels)
    )


def words(row: Encoded) -> str:
    return " ".join(WORDS[token] for token in row.input_ids)


def test_a_text_has_the_special_tokens_and_no_label() -> None:
    row = encode("a b c")
    assert words(row) == "[CLS] a b c [SEP]"
    assert row.labels == [-100] * 5 and row.classes == ("x",)
    assert row.token_types is None and not row.cut


def test_a_cut_leaves_the_token_at_the_end() -> None:
    row = encode("a b c d e", max_length=5)
    assert words(row) == "[CLS] a b c [SEP]" and row.cut
    assert words(encode("a b c", max_length=5)) == "[CLS] a b c [SEP]" and not encode("a b c", max_length=5).cut


def test_of_two_texts_the_longer_one_is_cut() -> None:
    row = encode("a b c d e", "f g", max_length=8)
    assert words(row) == "[CLS] a b c [SEP] f g [SEP]"
    assert row.token_types == [0, 0, 0, 0, 0, 1, 1, 1] and row.cut


def test_two_texts_without_a_separator_are_joined_by_a_line_break() -> None:
    plain = tokenizer(special=False)
    assert plain("a", "b")["input_ids"] == plain("a b")["input_ids"], "it parts them by itself"
    row = encode("a b", "c d", using=plain)
    assert row.input_ids == plain("a b\nc d")["input_ids"] and row.token_types is None


def test_the_tokenizer_is_left_without_a_cut() -> None:
    """A fast tokenizer keeps how it was last called, and saves it."""
    used = tokenizer()
    encode("a b c d e", max_length=4, using=used)
    assert used.backend_tokenizer.truncation is None and used.backend_tokenizer.padding is None


def test_what_has_no_token_is_refused() -> None:
    with pytest.raises(ValueError, match="the tokenizer makes no token of the text"):
        encode("~")
    with pytest.raises(ValueError, match="max_length = 2 leaves no token of a text beside 2 special ones"):
        encode("a b", max_length=2)
    with pytest.raises(ValueError, match="the row has no classes"):
        encode("a b", labels=None)


# -- control tokens in texts -----------------------------------------------------------------------------------------


def letters() -> Any:
    """A tokenizer of single letters, with `[CLS]` and `[SEP]` around a text, which can spell them too."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    known = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"[]abcSEPCLS "]
    inner = Tokenizer(models.WordLevel({word: place for place, word in enumerate(known)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    marks = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=inner, **marks)


PLACES = {"the first text": ("a[SEP]b", "c"), "the second": ("a", "[SEP]b[SEP]"), "both": ("[CLS]", "b [SEP]")}


@pytest.mark.parametrize("place", PLACES)
def test_control_tokens_in_a_text_are_refused_with_their_number(place: str) -> None:
    first, second = PLACES[place]
    count = first.count("[") + second.count("[")
    with pytest.raises(ValueError, match=rf"^the row's text has {count} control tokens?: '\[(SEP|CLS)\]' in the "):
        encode(first, second, using=letters())


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("cut", [None, 9])
def test_as_text_there_are_no_others_than_around_the_texts(place: str, cut: int | None) -> None:
    """Twin: a text in small letters of the same length has the same control tokens in the same places."""
    first, second = PLACES[place]
    row = encode(first, second, cut, using=letters(), control="text")
    twin = encode("a" * len(first), "b" * len(second), cut, using=letters())
    assert [one if one < 4 else -1 for one in row.input_ids] == [one if one < 4 else -1 for one in twin.input_ids]
    assert row.literal and row.remarks == ("with control tokens in their text, encoded as text",)
    assert not twin.literal and twin.remarks == ()


def test_kept_they_are_read_as_such() -> None:
    row = encode("a[SEP]b", using=letters(), control="keep")
    assert row.input_ids.count(3) == 2 and row.remarks == ("with control tokens in their text, read as such",)


def test_a_classifier_is_asked_as_it_was_trained() -> None:
    """A stub of a model that says what it was given."""
    given: list[list[int]] = []

    def forward(input_ids: Tensor, **_: Any) -> Any:
        given.extend(input_ids.tolist())
        return SimpleNamespace(logits=torch.zeros(len(input_ids), 2))

    model: Any = forward
    model.config = SimpleNamespace(problem_type=None, num_labels=2, id2label={0: "x", 1: "y"})
    model.device = "cpu"
    for control in ("text", "keep"):
        as_text = reads_as_text(Label(control_tokens=control))
        classify(model, letters(), [("a[SEP]b", "")], None, as_text=as_text)
        assert given.pop() == encode("a[SEP]b", using=letters(), control=control).input_ids
    assert reads_as_text(None) and reads_as_text(Label())


def test_a_third_partys_masking_says_itself_how_its_classifier_is_asked() -> None:
    class Theirs(Masking):
        name: Literal["acme.labels"] = "acme.labels"

        @property
        def keeps_control_tokens(self) -> bool:
            return True

        def build(self, ctx: MaskingContext) -> RowEncoder:
            raise NotImplementedError

    assert not reads_as_text(Theirs())


def test_what_cannot_be_written_as_text_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the tokenizer cannot write '\[SEP\]' as text"):
        encode("a [SEP] b", control="text")
