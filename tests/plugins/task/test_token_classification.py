"""Token classification: losses against a naive loop, alone and padded, on encoders and decoders; words; runs."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import AutoConfig, AutoModelForTokenClassification, PreTrainedTokenizerFast, pipeline

from fttool.api import DataError, Encoded, Example, MaskingContext, TaskContext
from fttool.rows.loader import WithTargets
from fttool.rows.tokens import TokenRows
from fttool.testing import run_recipe
from fttool_plugins.batching.padded import Padded
from fttool_plugins.format.tagged import joined
from fttool_plugins.masking.words import Words
from fttool_plugins.task.heads import set_padding
from fttool_plugins.task.tagging import in_words, spans, tagged
from fttool_plugins.task.token_classification import (
    TokenClassification,
    configuration,
    items_of,
    score,
    speaking,
    targets,
)

from ...architectures import CLASSIFIERS
from ...encoder import save_encoder
from ...rows import write_rows

NAMES = ("B-x", "I-x", "O")


def pieces() -> PreTrainedTokenizerFast:
    """A tokenizer of word pieces: `ab` and `c` are whole words, longer ones are their letters, and `~` is nothing."""
    letters = [*"abcdexy"]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "ab", *letters, *(f"##{letter}" for letter in letters)]
    inner = Tokenizer(models.WordPiece({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
    inner.normalizer = normalizers.Replace("~", "")
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = [("[CLS]", 2), ("[SEP]", 3)]
    inner.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=special)
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=inner, **names)


def encode(words: list[str], tags: list[str] | None = None, max_length: int | None = None) -> Encoded:
    context = MaskingContext(tokenizer=pieces(), max_length=max_length)
    return Words().build(context)(joined("rows.jsonl:1", words, tags or ["O"] * len(words)))


# -- tokens and words ------------------------------------------------------------------------------------------------


def test_each_token_knows_its_word() -> None:
    row = encode(["ab", "abc", "c", "x"], ["O", "B-x", "I-x", "O"])
    assert pieces().convert_ids_to_tokens(row.input_ids) == ["[CLS]", "ab", "ab", "##c", "c", "x", "[SEP]"]
    assert row.words == [-1, 0, 1, 1, 2, 3, -1]
    assert row.classes == ("O", "B-x", "I-x", "O") and set(row.labels) == {-100} and not row.cut and not row.lost


def test_words_that_hold_blanks_and_punctuation_stay_one() -> None:
    assert encode(["ab c", "x"]).words == [-1, 0, 0, 1, -1]
    assert encode(["ab,c", "x"]).words == [-1, 0, 0, 0, 1, -1]


@pytest.mark.parametrize("max_length", range(3, 9))
def test_what_is_cut_is_counted_and_the_end_stays(max_length: int) -> None:
    words = ["ab", "abc", "abcd", "x"]
    whole = encode(words)
    row = encode(words, max_length=max_length)
    assert row.words is not None and whole.words is not None and row.classes is not None
    assert row.cut and len(row.input_ids) == max_length and row.input_ids[-1] == 3
    assert row.words[:-1] == whole.words[: max_length - 1]
    assert len(row.classes) == max(row.words) + 1
    words_lost = {"words": 4 - len(row.classes)} if len(row.classes) < 4 else {}
    assert row.lost == {"tokens": len(whole.input_ids) - max_length, **words_lost}


def test_a_word_without_a_token_and_room_for_none_are_refused() -> None:
    with pytest.raises(ValueError, match="no token of its own of word 2, '~~'"):
        encode(["ab", "~~", "c"])
    with pytest.raises(ValueError, match="makes no token of the text"):
        encode(["~", "~~"])
    with pytest.raises(ValueError, match="max_length = 2 leaves no token of a word beside 2 special ones"):
        encode(["ab", "c"], max_length=2)


def test_control_tokens_in_words() -> None:
    example = joined("rows.jsonl:1", ["ab", "[SEP]", "c"], ["O"] * 3)
    context = MaskingContext(tokenizer=pieces())
    with pytest.raises(ValueError, match=r"1 control token: '\[SEP\]' in the text"):
        Words().build(context)(example)
    kept = Words(control_tokens="keep").build(context)(example)
    assert kept.input_ids == [2, 4, 3, 7, 3] and kept.words == [-1, 0, 1, 2, -1]
    text = Words(control_tokens="text").build(context)(example)
    assert text.input_ids.count(3) == 1 and text.words == [-1, 0, 1, 1, 1, 2, -1]


def test_rows_in_flat_arrays_keep_their_words() -> None:
    rows, plain = TokenRows(), Encoded([5, 6], [-100, 6])
    tagged_row = encode(["abc", "x"], ["B-x", "O"])
    for row in (plain, tagged_row, plain, tagged_row):
        rows.append(row, "1")
    assert [rows[place].words for place in (1, 3)] == [tagged_row.words] * 2
    assert rows[1].classes == ("B-x", "O")
    assert rows.class_counts == {"B-x": 2, "O": 2}


def test_targets() -> None:
    assert targets([("O", "B-x", "O"), ("I-x",)], NAMES).tolist() == [[2, 0, 2], [1, -100, -100]]
    with pytest.raises(ValueError, match="no training row has the tag 'B-y'; did you mean 'B-x'"):
        targets([("O", "B-y")], NAMES)


# -- the score -------------------------------------------------------------------------------------------------------


ROWS = [
    (["ab", "abc", "c"], ["O", "B-x", "I-x"]),
    (["x"], ["B-x"]),
    (["abcde", "y", "ab", "xyab", "c", "c"], ["B-x", "I-x", "O", "B-x", "O", "O"]),
]


def batch(rows: list[Encoded]) -> dict[str, Tensor]:
    """The rows as a run collates them."""
    lengths = [len(row.input_ids) for row in rows]
    from fttool.api import BatchingContext

    context = BatchingContext(lengths=lengths, micro_batch=8, global_batch=8, pad_id=0, seed=0)
    return WithTargets(Padded().build(context), lambda some: targets(some, NAMES)).collate([[row] for row in rows])


def tiny(kind: str) -> Any:
    torch.manual_seed(0)
    special = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    config = AutoConfig.for_model(kind, **{**special, **CLASSIFIERS[kind]}, **configuration(NAMES))
    model = AutoModelForTokenClassification.from_config(config)
    set_padding(model, pieces())
    return model.eval()


@pytest.mark.parametrize("kind", CLASSIFIERS)
@pytest.mark.parametrize("every_piece", [False, True], ids=["first", "all"])
def test_losses_are_those_of_a_naive_loop_and_padding_changes_nothing(kind: str, every_piece: bool) -> None:
    """Each row alone, without padding, word by word; against all rows together."""
    model, rows = tiny(kind), [encode(*row) for row in ROWS]
    if every_piece:  # dropout aside
        model.training = True
    seen = score(model, batch(rows), every_piece=every_piece)
    expected: list[Tensor] = []
    for row in rows:
        logits_TC = model(input_ids=torch.tensor([row.input_ids])).logits[0]
        before = -1
        for place, word in enumerate(row.words or []):
            if word >= 0 and (every_piece or word != before):
                assert row.classes is not None
                expected.append(-logits_TC[place].log_softmax(-1)[NAMES.index(row.classes[word])])
            before = word
    torch.testing.assert_close(seen.losses_N, torch.stack(expected), rtol=1e-5, atol=1e-6)
    assert seen.rows_N is not None and seen.rows_N.tolist() == sorted(seen.rows_N.tolist())
    assert len(expected) == items_of(batch(rows), every_piece=every_piece) == (17 if every_piece else 10)


def test_what_is_measured_is_said_by_first_pieces_however_it_is_learned() -> None:
    model, given = tiny("bert"), batch([encode(*row) for row in ROWS])
    torch.testing.assert_close(
        score(model, given, every_piece=True).losses_N, score(model, given).losses_N, rtol=0, atol=0
    )


def test_a_word_with_a_piece_of_none_inside_speaks_once() -> None:
    words_BT = torch.tensor([[-1, 0, -1, 0, 1, 1, -1, 2, -1]])
    assert speaking(words_BT, every_piece=False).nonzero()[:, 1].tolist() == [1, 4, 7]
    assert speaking(words_BT, every_piece=True).nonzero()[:, 1].tolist() == [1, 3, 4, 5, 7]


# -- what a model says -------------------------------------------------------------------------------------------------


def test_long_texts_are_read_in_parts_and_words_without_a_token_are_outside() -> None:
    model, tokenizer = tiny("bert"), pieces()
    example = joined("1", ["ab", "~", *["c", "abc", "x"] * 6])
    (whole,) = tagged(model, tokenizer, [example], None)
    assert len(whole) == 20 and whole[1] == "O"
    (parts,) = tagged(model, tokenizer, [example], 9)
    first = joined("1", ["ab", "~", "c", "abc", "x", "c"])
    assert len(parts) == 20 and tagged(model, tokenizer, [first], None)[0] == parts[:6]
    both = tagged(model, tokenizer, [joined("1", ["x"]), example], 9)
    assert both[1] == parts and len(both[0]) == 1


def test_spans_are_pieces_of_the_text() -> None:
    example = joined("1", ["Anna", "Lee", "saw", "Rome", "."])
    found = spans(example, ["B-PER", "I-PER", "O", "B-LOC", "O"])
    assert found == [("Anna Lee", "PER", 0, 8), ("Rome", "LOC", 13, 17)]
    assert all(example.prompt[one.start : one.end] == one.text for one in found)
    assert spans(joined("1", ["Anna", "saw"]), ["NOUN", "VERB"]) == [("Anna", "NOUN", 0, 4), ("saw", "VERB", 5, 8)]


# -- tags ------------------------------------------------------------------------------------------------------------


def names(counts: dict[str, int], **options: Any) -> tuple[str, ...]:
    return TokenClassification(**options).build(TaskContext(label_counts=counts, rows=3)).labels


def test_tags_are_in_order_or_as_asked() -> None:
    assert names({"O": 5, "I-x": 1, "B-x": 2}) == NAMES
    assert names({"O": 5, "B-x": 2}, labels=("O", "B-x", "I-x")) == ("O", "B-x", "I-x")
    with pytest.raises(DataError, match=r"task.labels lacks the tag 'B-x', which 2 training words have"):
        names({"O": 5, "B-x": 2}, labels=("O", "I-x"))
    with pytest.raises(DataError, match="all words of the training rows have the tag 'O'"):
        names({"O": 5})


# -- runs ------------------------------------------------------------------------------------------------------------


def sentences(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """A letter in front of `x` is a person, `y` a place, and every other letter neither."""
    draw, rows = random.Random(seed), list[dict[str, Any]]()
    for _ in range(count):
        tokens, tags = list[str](), list[str]()
        for _ in range(draw.randrange(2, 6)):
            some = draw.choice((("B-PER I-PER", f"{draw.choice('abc')} x"), ("B-LOC", "y"), ("O", draw.choice("defg"))))
            tags, tokens = tags + some[0].split(), tokens + some[1].split()
        rows.append({"tokens": tokens, "tags": tags})
    return rows


@pytest.fixture
def recipe(tmp_path: Path) -> dict[str, Any]:
    save_encoder(tmp_path / "encoder")
    write_rows(tmp_path / "rows.jsonl", sentences(60))
    return {
        "recipe": 1,
        "task": "token-classification",
        "run": {"max_steps": 6, "micro_batch": 8, "log_every": 1},
        "model": {"source": str(tmp_path / "encoder")},
        "data": {"train": [{"path": "../rows.jsonl"}], "eval_share": 0.3},
        "optimizer": {"name": "adamw", "lr": 1e-2},
        "precision": {"name": "fp32"},
    }


def trained(folder: Path, recipe: dict[str, Any], *overrides: str) -> tuple[dict[str, Tensor], Any]:
    folder.mkdir(exist_ok=True)
    run = run_recipe(recipe, folder, overrides=overrides)
    assert run.error is None, run.error
    return load_file(run.run_dir / "model" / "model.safetensors"), run


def test_a_run_learns_and_its_model_is_transformers_own(tmp_path: Path, recipe: dict[str, Any]) -> None:
    _, run = trained(tmp_path / "run", recipe, "run.max_steps=20")
    summary = run.summary
    after = summary["eval"]["after"]
    assert list(after) == ["entity-f1", "entity-precision", "entity-recall", "accuracy", "loss"]
    assert after["entity-f1"] > 0.9 > summary["eval"]["before"]["entity-f1"]
    assert summary["tables"].keys() == {"per entity"}
    ask = pipeline("token-classification", model=str(run.run_dir / "model"), device="cpu", ignore_labels=[])
    assert len(summary["samples"]) == 3
    for sample in summary["samples"]:
        words = joined("", sample["question"].split())
        tags = [one["entity"] for one in ask(sample["question"])]  # here a word is a token
        assert sample["after"] == in_words(words, tags)


def test_accumulation_one_times_eight_is_eight_times_one(tmp_path: Path, recipe: dict[str, Any]) -> None:
    """The loss of an update is a mean over its words, however many words the rows of a micro-batch have."""
    whole, run = trained(tmp_path / "whole", recipe, "run.global_batch=8", "run.micro_batch=8")
    parts, _ = trained(tmp_path / "parts", recipe, "run.global_batch=8", "run.micro_batch=1")
    assert whole.keys() == parts.keys() and "classifier.weight" in whole
    for name, weight in whole.items():
        torch.testing.assert_close(parts[name], weight, rtol=0, atol=2e-5)
    words = sum(len(row["tokens"]) for row in sentences(60))
    assert 0 < run.summary["label_tokens"] < 2 * words


def test_a_resumed_run_is_the_run_that_never_stopped(tmp_path: Path, recipe: dict[str, Any]) -> None:
    constant = ["schedule=constant", "schedule.warmup=1", "evaluation.every=2", "task.pieces=all"]
    whole, run = trained(tmp_path / "whole", recipe, *constant, "run.max_steps=6")
    trained(tmp_path / "halves", recipe, *constant, "run.max_steps=3")
    halves = run_recipe(recipe, tmp_path / "halves", overrides=[*constant, "run.max_steps=6"], resume=True)
    assert halves.error is None, halves.error
    again = load_file(halves.run_dir / "model" / "model.safetensors")
    assert all(torch.equal(weight, again[name]) for name, weight in whole.items())
    assert halves.summary["tables"] == run.summary["tables"] and halves.summary["eval"] == run.summary["eval"]


def test_a_head_alone_learns_on_features_that_are_kept(tmp_path: Path, recipe: dict[str, Any]) -> None:
    """With what the encoder computes kept, the head learns what it learns with the encoder run in each epoch."""
    before = load_file(tmp_path / "encoder" / "model.safetensors")
    kept, run = trained(tmp_path / "kept", {**recipe, "freezing": "head-only"}, "run.max_steps=12")
    off = {"name": "head-only", "features": "off"}
    run_each, _ = trained(tmp_path / "each", {**recipe, "freezing": off}, "run.max_steps=12")
    assert [event for event in run.events if event["event"] == "features_kept"], run.events
    assert {name for name in kept if not name.startswith("bert.")} == {"classifier.weight", "classifier.bias"}
    assert all(torch.equal(kept[f"bert.{name}"], weight) for name, weight in before.items() if "pooler" not in name)
    for name in ("classifier.weight", "classifier.bias"):
        torch.testing.assert_close(kept[name], run_each[name], rtol=0, atol=2e-5)


def test_what_is_lost_to_max_length_is_said(tmp_path: Path, recipe: dict[str, Any]) -> None:
    rows = sentences(60)
    _, run = trained(tmp_path / "run", recipe, "batching.max_length=6", "run.max_steps=1", "schedule.warmup=0")
    longer = [len(row["tokens"]) - 4 for row in rows if len(row["tokens"]) > 4]
    assert run.summary["truncated_rows"] == len(longer) and run.summary["lost"]["words"] == sum(longer)


def test_parts_of_speech_have_other_metrics(tmp_path: Path, recipe: dict[str, Any]) -> None:
    rows = [{"tokens": ["a", "b"], "tags": ["NOUN", "VERB"]}, {"tokens": ["b", "c"], "tags": ["VERB", "NOUN"]}] * 8
    lines = [{**row, "tokens": [*row["tokens"], str(n)], "tags": [*row["tags"], "NUM"]} for n, row in enumerate(rows)]
    write_rows(tmp_path / "rows.jsonl", lines)
    (tmp_path / "run").mkdir()
    refused = run_recipe(recipe, tmp_path / "run")
    assert "entity-f1 needs tags of entities" in str(refused.error) and refused.exit_code == 3
    _, run = trained(tmp_path / "again", recipe, "evaluation.metrics=['accuracy','macro-f1','loss']")
    assert run.summary["tables"].keys() == {"per class", "true ↓ predicted →"}
    assert "[NOUN]" in run.summary["samples"][0]["expected"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("evaluation.metrics=['token-accuracy']", "metric 'token-accuracy' is for a task that learns tokens"),
        ("masking=label", "masking 'label' is for a task that learns a class for each row"),
        ("data.train.0.format=labelled", "format 'labelled' is for a task"),
        ("batching=packed", "batching 'packed' is for a task that learns tokens, not for 'token-classification'"),
        ("task.labels=['O','O']", "task.labels names 'O' twice"),
    ],
)
def test_strategies_of_another_kind_are_refused(tmp_path: Path, recipe: dict[str, Any], words: str, said: str) -> None:
    refused = run_recipe(recipe, tmp_path, overrides=["data.train.0.path=rows.jsonl", words])
    assert said in str(refused.error) and refused.exit_code == 3


def test_an_example_of_words_has_its_text() -> None:
    assert joined("1", ["a", "bc"], ["O", "B-x"]) == Example(
        origin="1", prompt="a bc", words=((0, 1), (2, 4)), labels=("O", "B-x")
    )
