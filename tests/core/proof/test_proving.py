"""A run proves on its own model what its batches assume, refuses what is not so, and says what it found."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib.machinery import ModuleSpec
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tomli_w import dumps
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from fttool.cli import main
from fttool.contracts.rows import Encoded
from fttool.rows.loader import EpochLoader, train_loader
from fttool.testing import RunResult, run_recipe, tiny_model, tiny_tokenizer
from fttool.training.passes import pieces
from fttool.world import ALONE
from fttool_plugins.batching import collate
from fttool_plugins.task.sft import score

from ...architectures import SIZES
from ...rows import write_rows

SMALL = {**SIZES, "vocab_size": 128, "pad_token_id": 0, "eos_token_id": 3}


def saved(folder: Path, kind: str, **options: Any) -> Path:
    """A tiny random model of an architecture, with the tokenizer of characters."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made: Any = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SMALL | options))
    made.save_pretrained(folder / kind)
    tiny_tokenizer().save_pretrained(folder / kind)
    return folder / kind


@pytest.fixture
def recipe(fttool_recipe: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """Two updates of two sequences of up to 96 tokens; no row has more than 64."""
    rows = tmp_path / "rows.jsonl"
    texts = ["".join(chr(97 + (7 * row + place) % 26) for place in range(10 + row * 5 % 53)) for row in range(24)]
    write_rows(rows, ({"text": text} for text in texts))
    fttool_recipe["run"] = {"max_steps": 2, "micro_batch": 2, "log_every": 1}
    fttool_recipe["data"] = {"train": [{"path": str(rows), "format": "text"}], "eval_share": 0.2}
    fttool_recipe["masking"] = "all"
    fttool_recipe["batching"] = {"name": "packed", "max_length": 96}
    fttool_recipe["evaluation"] = {"samples": 0}
    return fttool_recipe


def proofs(run: RunResult) -> list[dict[str, Any]]:
    """What each proof of a run has compared."""
    return [event["comparisons"] for event in run.events if event["event"] == "proof"]


def test_a_run_says_what_it_has_proven(recipe: dict[str, Any], tmp_path: Path) -> None:
    run = run_recipe(recipe, tmp_path)
    assert run.error is None
    [found] = proofs(run)
    names = {"context", "later", "beside", "padded", "neighbours", "packed", "longest"}
    assert names <= set(found)
    assert all(found[name]["holds"] for name in names - {"context"}) and found["context"]["difference"] > 1e-3
    assert run.summary["proof"] == {**found, "seconds": run.summary["proof"]["seconds"]}
    first = next(index for index, event in enumerate(run.events) if event["event"] == "proof")
    assert run.events[first - 1]["event"] != "checkpoint_saved"


def test_each_row_by_itself_has_nothing_to_prove_of_company(recipe: dict[str, Any], tmp_path: Path) -> None:
    recipe["run"]["micro_batch"], recipe["batching"] = 1, {"name": "bucketed"}
    [found] = proofs(run_recipe(recipe, tmp_path))
    assert {"context", "later", "longest"} <= set(found)
    assert not {"beside", "padded", "neighbours", "packed"} & set(found)


@pytest.mark.parametrize("kind", ["bloom", "opt", "mamba"])
def test_packed_rows_that_see_each_other_are_refused(recipe: dict[str, Any], tmp_path: Path, kind: str) -> None:
    recipe["model"] = {"source": str(saved(tmp_path, kind, **({"word_embed_proj_dim": 16} if kind == "opt" else {})))}
    run = run_recipe(recipe, tmp_path)
    assert run.exit_code == 5 and "packed rows see each other" in str(run.error), run.error
    assert 'batching = "bucketed"' in str(run.error) and "recipe.toml:" in str(run.error)
    [found] = proofs(run)
    assert found["neighbours"]["difference"] > found["neighbours"]["allowed"]
    assert run.summary["status"] == "failed" and not run.summary["proof"]["neighbours"]["holds"]
    assert not (run.run_dir / "metrics.jsonl").exists()
    padded = run_recipe(recipe, tmp_path, overrides=["run.name=padded", "batching=bucketed", "batching.max_length=96"])
    assert padded.error is None


def test_an_encoder_is_refused_where_tokens_are_learned(
    recipe: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe["batching"] = "bucketed"
    recipe["model"] = {"source": str(saved(tmp_path, "bert"))}
    run = run_recipe(recipe, tmp_path)
    assert run.exit_code == 5 and "BertLMHeadModel sees the tokens that it is to predict" in str(run.error)
    assert "a task that predicts no tokens" in str(run.error) and "--family task" in str(run.error)
    file = tmp_path / "recipe.toml"
    assert main(["run", str(file), "--dry-run"]) == 5
    assert "sees the tokens that it is to predict" in capsys.readouterr().err
    recipe["model"] = {"source": str(saved(tmp_path, "bert", is_decoder=True))}
    file.write_text(dumps(recipe))
    with redirect_stdout(io.StringIO()) as page:
        assert main(["run", str(file), "--dry-run"]) == 0
    assert "a later token changes no earlier logit" in page.getvalue()


def test_learned_positions_are_never_left(recipe: dict[str, Any], tmp_path: Path) -> None:
    """A sequence of 96 tokens, of which the padding alone may be more than the 64 positions that there are."""
    recipe["model"] = {"source": str(saved(tmp_path, "gpt2"))}
    recipe["run"]["max_steps"] = 4
    run = run_recipe(recipe, tmp_path)
    assert run.error is None and run.summary["proof"]["packed"]["holds"]
    long = collate.packed([[Encoded([5] * 4, [5] * 4)], [Encoded([6] * 90, [6] * 90)]], 0)
    assert long["position_ids"][0, 4:].tolist() == [0] * 86


def test_padding_that_is_proven_right_is_not_warned_of(
    recipe: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers does so once per process, for each model whose own mask it makes."""
    from transformers.utils import logging

    warned = "passing in an `attention_mask`"
    logging.warning_once.cache_clear()
    model: Any = AutoModelForCausalLM.from_pretrained(saved(tmp_path, "gpt2"))
    log, ids = logging.get_logger("transformers.modeling_utils"), torch.tensor([[5, 0]])
    before = logging.get_verbosity()
    logging.set_verbosity_warning()  # a verb that ran in this process may have turned it down
    for heard in (log, logging.get_logger("transformers")):  # whatever ran in this process before
        monkeypatch.setattr(heard, "propagate", True)
        monkeypatch.setattr(heard, "disabled", False)
    filters, log.filters = log.filters, []
    model.warn_if_padding_and_no_attention_mask(ids, None)
    assert warned in caplog.text, "what is silenced is said by this version"
    log.filters = filters
    caplog.clear()
    logging.warning_once.cache_clear()
    recipe["model"] = {"source": str(tmp_path / "gpt2")}
    assert run_recipe(recipe, tmp_path).error is None
    model.warn_if_padding_and_no_attention_mask(ids, None)
    logging.set_verbosity(before)
    assert warned not in caplog.text


# -- kernels of variable length ------------------------------------------------------------------------------------


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """flash-attention's two functions by torch's own attention, on any device; those that were called."""
    found: list[str] = []
    import transformers.modeling_flash_attention_utils as kernels
    import transformers.utils.import_utils as installed

    def attend(q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float | None) -> Tensor:
        q, k, v = (one.transpose(-3, -2) for one in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale, enable_gqa=True).transpose(-3, -2)

    def flash_attn_func(
        q: Tensor, k: Tensor, v: Tensor, causal: bool = False, softmax_scale: float | None = None, **_: Any
    ) -> Tensor:
        found.append("whole")
        return attend(q, k, v, causal, softmax_scale)

    def flash_attn_varlen_func(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        cu_seqlens_q: Tensor,
        cu_seqlens_k: Tensor,
        max_seqlen_q: int,
        max_seqlen_k: int,
        causal: bool = False,
        softmax_scale: float | None = None,
        **_: Any,
    ) -> Tensor:
        assert cu_seqlens_q.dtype == torch.int32 and type(max_seqlen_q) is int, "the kernel takes no others"
        ends = cu_seqlens_q.tolist()
        assert ends == cu_seqlens_k.tolist() and ends[-1] == len(q)
        assert max_seqlen_q == max_seqlen_k == max(b - a for a, b in pairwise(ends))
        found.append("lengths")
        parts = [(q[None, a:b], k[None, a:b], v[None, a:b]) for a, b in pairwise(ends)]
        return torch.cat([attend(*part, causal, softmax_scale)[0] for part in parts])

    stub = ModuleType("flash_attn")
    stub.__spec__ = ModuleSpec("flash_attn", None)
    for function in (flash_attn_func, flash_attn_varlen_func):
        setattr(stub, function.__name__, function)
    for name in ("flash_attn_with_kvcache", "pad_input", "unpad_input", "index_first_axis"):
        setattr(stub, name, None)
    padding = SimpleNamespace(pad_input=None, unpad_input=None, index_first_axis=None)
    monkeypatch.setitem(sys.modules, "flash_attn", stub)
    monkeypatch.setitem(sys.modules, "flash_attn.bert_padding", padding)
    for module in (installed, kernels):
        monkeypatch.setattr(module, "is_flash_attn_2_available", lambda: True, raising=False)
    for name in dir(PreTrainedModel):
        if "flash" in name and "can_dispatch" in name:
            monkeypatch.setattr(PreTrainedModel, name, lambda self, *_, **__: True)
    monkeypatch.setattr(kernels, "_loaded_implementation", None, raising=False)
    return found


def rows(*lengths: int) -> list[Encoded]:
    return [Encoded(list(range(5, 5 + length)), list(range(5, 5 + length))) for length in lengths]


@pytest.mark.parametrize("micro_batch", [1, 2])
def test_under_flash_attention_rows_are_as_they_are_alone(calls: list[str], micro_batch: int) -> None:
    from transformers import LlamaForCausalLM

    from fttool.testing.tiny import tiny_config

    some = rows(9, 4, 13, 6)
    model = tiny_model().eval()
    flash: Any = LlamaForCausalLM._from_config(tiny_config(), attn_implementation="flash_attention_2").eval()
    flash.load_state_dict(model.state_dict())
    sequences = [[some[0], some[1]], [some[2], some[3]]][:micro_batch]
    with torch.no_grad():
        alone = torch.cat([score(model, collate.padded([[row]], 0)).losses_N for row in some[: 2 * micro_batch]])
        packed = score(flash, collate.flattened(sequences)).losses_N
    torch.testing.assert_close(packed, alone, rtol=0, atol=1e-6)
    assert set(calls) == {"lengths"}


@pytest.mark.parametrize("micro_batch", ["2", "'auto'"])
def test_a_run_under_flash_attention_learns_what_another_does(
    calls: list[str], recipe: dict[str, Any], tmp_path: Path, micro_batch: str
) -> None:
    words = [f"run.micro_batch={micro_batch}", "run.global_batch=4"]
    plain = run_recipe(recipe, tmp_path, overrides=["run.name=plain", *words])
    assert plain.error is None and not calls
    found = run_recipe(recipe, tmp_path, overrides=["run.name=flash", "model.attention=flash_attention_2", *words])
    assert found.error is None and set(calls) == {"lengths"}
    losses = [[line["loss"] for line in run.metrics if "loss" in line] for run in (plain, found)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for when in ("before", "after"):
        assert found.summary["eval"][when]["loss"] == pytest.approx(plain.summary["eval"][when]["loss"], rel=1e-5)
    for name in ("train_tokens", "label_tokens"):
        assert found.summary[name] == plain.summary[name]


@pytest.mark.parametrize(
    "more",
    [
        {"freezing": "head-only", "run": {"max_steps": 12, "micro_batch": 2, "log_every": 1}},
        {"regularizers": [{"name": "ewc", "strength": 1.0, "examples": 6}]},
        {"regularizers": [{"name": "mixout", "p": 0.3}]},
        {"regularizers": [{"name": "l2-init", "strength": 0.1}]},
    ],
    ids=["features", "ewc", "mixout", "l2-init"],
)
def test_whoever_asks_the_model_under_flash_attention_asks_it_as_an_update_does(
    calls: list[str], recipe: dict[str, Any], tmp_path: Path, more: dict[str, Any]
) -> None:
    """Features, importance, changed modules: no way leads to several sequences with position ids."""
    recipe["data"]["general"] = [{**recipe["data"]["train"][0], "name": "general"}]
    recipe |= more
    recipe["optimizer"] = {"name": "adamw", "lr": 1e-2}
    plain = run_recipe(recipe, tmp_path, overrides=["run.name=plain"])
    assert plain.error is None and not calls, plain.error
    found = run_recipe(recipe, tmp_path, overrides=["run.name=flash", "model.attention=flash_attention_2"])
    assert found.error is None and set(calls) == {"lengths"}, (found.error, set(calls))
    timed = {"tokens_per_second"}
    for ours, theirs in zip(found.metrics, plain.metrics, strict=True):
        kept = ours.keys() - timed
        assert {key: ours[key] for key in kept} == pytest.approx({key: theirs[key] for key in kept}, rel=1e-4, abs=1e-6)
    about_features = [event["event"] for event in found.events if event["event"].startswith("features_")]
    assert about_features == (["features_kept"] if "freezing" in more else [])


def test_packs_that_flash_attention_would_mix_are_refused(
    calls: list[str], recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Position ids of several sequences, as a batching strategy may give them that knows nothing of these kernels."""
    monkeypatch.setattr(collate, "flattened", lambda sequences: collate.packed(sequences, 0))
    run = run_recipe(recipe, tmp_path, overrides=["model.attention=flash_attention_2"])
    assert run.exit_code == 5 and "packed rows see each other" in str(run.error)


def test_a_sequence_of_all_rows_is_cut_where_rows_end() -> None:
    """As a micro-batch is that does not fit into memory, with the features that are kept of its tokens."""
    sequences = [rows(3, 5), rows(4), rows(2, 2, 2)]
    numbers: list[list[int]] = [[0, 1], [2], [3, 4, 5]]
    batch = {**collate.flattened(sequences), "rows": numbers, "places": torch.arange(18)[None].numpy()}
    found = list(pieces(batch, 2))
    assert [piece["rows"] for piece in found] == [numbers[:2], numbers[2:]]
    for piece, own, places in zip(found, (sequences[:2], sequences[2:]), (range(12), range(12, 18)), strict=True):
        for key, value in collate.flattened(own).items():
            assert torch.equal(torch.as_tensor(piece[key]), torch.as_tensor(value)), key
        assert piece["places"].tolist() == [list(places)]
    assert next(pieces(batch, 3)) is batch


class Flat:
    """Batches of two sequences of two rows, flattened."""

    def plan(self, order: Sequence[int], epoch: int) -> list[list[tuple[int, int]]]:
        pairs = list(zip(order[::2], order[1::2], strict=True))
        return [pairs[start : start + 2] for start in range(0, len(pairs), 2)]

    collate = staticmethod(collate.flattened)


def test_the_loader_knows_the_places_and_slots_of_a_sequence_of_all_rows() -> None:
    some = rows(3, 5, 4, 2, 7, 2)
    lengths = [len(row.input_ids) for row in some]
    loader: EpochLoader = train_loader(some, lambda _: range(6), Flat(), 0, ALONE)
    assert loader.largest(lengths, at_once=True) == 14 and loader.largest(lengths, at_once=False) == 9
    loader.tell_places([0, 3, 8, 12, 14, 21, 23])
    first, second = loader
    assert first["places"].tolist() == [list(range(14))] and second["places"].tolist() == [list(range(14, 23))]
    assert first["rows"] == [[0, 1], [2, 3]]
