"""A base model that never trains runs once per row; what is learned is the same as if it ran in every epoch."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.models.llama.modeling_llama import LlamaModel

from fttool.api import Features, Predictions, Regularization, Regularizer, RegularizerContext, hookimpl
from fttool.features.cache import Budget, FeatureCache, Vectors
from fttool.features.observed import NotCached, observe
from fttool.testing import RunResult, plugins, run_recipe, tiny_tokenizer
from fttool.training import proof

from ...rows import write_rows, write_talks
from ...runs import assert_same_weights, losses, weights


@pytest.fixture
def recipe(tmp_path: Path, fttool_recipe: dict[str, Any]) -> dict[str, Any]:
    """Three epochs of five updates over rows of unlike length; a little is evaluated."""
    rows = write_talks(tmp_path / "rows.jsonl", 24)
    fttool_recipe["data"] = {"train": [{"path": str(rows), "format": "messages"}], "eval_share": 0.1}
    fttool_recipe["run"] = {"epochs": 3, "micro_batch": 2, "global_batch": 4, "log_every": 1, "seed": 3}
    fttool_recipe["optimizer"] = {"name": "adamw", "lr": 5e-2}
    fttool_recipe["evaluation"] = {"samples": 1, "sample_tokens": 4}
    fttool_recipe["freezing"] = {"name": "head-only"}
    return fttool_recipe


def said(run: RunResult) -> dict[str, Any]:
    """The event that tells what became of the features."""
    (event,) = [event for event in run.events if event["event"].startswith("features_")]
    return event


def has_kept(run: RunResult) -> bool:
    return said(run)["event"] == "features_kept"


def with_and_without(recipe: dict[str, Any], folder: Path, *words: str) -> tuple[RunResult, RunResult]:
    """The same run with features and without; the first is checked to have them, and both to learn something."""
    kept = run_recipe(recipe, folder, overrides=[*words, "run.name=kept"])
    plain = run_recipe(recipe, folder, overrides=[*words, "run.name=plain", "freezing.features=off"])
    assert losses(kept)[-1] < losses(kept)[0]
    assert has_kept(kept), said(kept)
    assert not has_kept(plain) and said(plain)["reason"] == "features are switched off"
    return kept, plain


def assert_same(kept: RunResult, plain: RunResult) -> None:
    assert losses(kept) == pytest.approx(losses(plain), rel=1e-6)
    for name, tensor in weights(plain).items():
        torch.testing.assert_close(weights(kept)[name], tensor, rtol=1e-5, atol=1e-6)


def save(model: PreTrainedModel, folder: Path) -> str:
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


SMALL: dict[str, Any] = {
    "vocab_size": 128,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 3,
    "tie_word_embeddings": False,
}


def random_model(model_class: Any, config_class: Any, **values: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    return model_class(config_class(**{**SMALL, **values}))


# -- what is learned -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batching", ["padded", "bucketed", "packed"])
def test_the_same_is_learned(tmp_path: Path, recipe: dict[str, Any], batching: str) -> None:
    kept, plain = with_and_without(recipe, tmp_path, f"batching={{name='{batching}',max_length=128}}")
    assert_same(kept, plain)
    learned = kept.summary["label_tokens"] // 3
    assert said(kept)["memory_bytes"] == learned * 16 * 4  # of the learned tokens alone, each of 16 numbers


CAUSAL: dict[str, Callable[[], PreTrainedModel]] = {
    "Gemma 2 caps its logits": lambda: random_model(
        transformers.Gemma2ForCausalLM,
        transformers.Gemma2Config,
        head_dim=8,
        final_logit_softcapping=0.5,  # so low that logits without it are others
    ),
    "Granite divides them": lambda: random_model(
        transformers.GraniteForCausalLM, transformers.GraniteConfig, logits_scaling=3.0
    ),
    "GPT-2 with dropout": lambda: random_model(
        transformers.GPT2LMHeadModel,
        transformers.GPT2Config,
        n_embd=16,
        n_layer=2,
        n_head=2,
        n_positions=256,
        resid_pdrop=0.3,
        embd_pdrop=0.3,
        attn_pdrop=0.3,
    ),
    "GPT-NeoX": lambda: random_model(transformers.GPTNeoXForCausalLM, transformers.GPTNeoXConfig),
}


@pytest.mark.parametrize("which", list(CAUSAL))
def test_the_models_own_forward_stays_above_the_features(tmp_path: Path, recipe: dict[str, Any], which: str) -> None:
    recipe["model"] = {"source": save(CAUSAL[which](), tmp_path / "model")}
    kept, plain = with_and_without(recipe, tmp_path)
    assert_same(kept, plain)


BERT: dict[str, Any] = {"hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.2, "classifier_dropout": 0.2}
CLASSIFIERS: dict[str, Callable[[], PreTrainedModel]] = {
    "BERT reads a pooled state": lambda: random_model(
        transformers.BertForSequenceClassification, transformers.BertConfig, **BERT
    ),
    "RoBERTa reads the first token": lambda: random_model(
        transformers.RobertaForSequenceClassification, transformers.RobertaConfig, **BERT
    ),
    "DistilBERT has a ReLU in its head": lambda: random_model(
        transformers.DistilBertForSequenceClassification,
        transformers.DistilBertConfig,
        dim=16,
        hidden_dim=24,
        n_layers=2,
        n_heads=2,
    ),
    "Llama reads the last token": lambda: random_model(
        transformers.LlamaForSequenceClassification, transformers.LlamaConfig
    ),
}


@pytest.mark.parametrize("which", list(CLASSIFIERS))
def test_a_classifier_reads_one_vector_per_row(tmp_path: Path, recipe: dict[str, Any], which: str) -> None:
    rows = tmp_path / "labelled.jsonl"
    texts = [{"text": "ab "[n % 3] * (3 + n % 7) + f" {n}", "label": "xyz"[n % 3]} for n in range(24)]
    write_rows(rows, texts)
    recipe |= {"task": "classification", "data": {"train": [{"path": str(rows)}], "eval_share": 0.1}}
    recipe["batching"] = {"name": "bucketed", "max_length": 64}
    recipe["model"] = {"source": save(CLASSIFIERS[which](), tmp_path / "model")}
    kept, plain = with_and_without(recipe, tmp_path)
    assert_same(kept, plain)
    assert said(kept)["memory_bytes"] == kept.summary["train_rows"] * 16 * 4


@pytest.mark.parametrize("weights", ["float32", "bfloat16"])
def test_in_bf16_too_the_head_gets_what_the_base_model_gives(
    tmp_path: Path, recipe: dict[str, Any], weights: str
) -> None:
    kept, plain = with_and_without(recipe, tmp_path, f"precision={{name='bf16',weights='{weights}'}}")
    assert losses(kept) == pytest.approx(losses(plain), rel=1e-3)


# -- what is computed ----------------------------------------------------------------------------------------------


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Forward passes of Llama's base model, each with whether it was in training mode; without those of the proof."""
    found: list[bool] = []
    forward, prove = LlamaModel.forward, proof.prove

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        found.append(self.training)
        return forward(self, *args, **kwargs)

    def uncounted(*args: Any) -> proof.Proven:
        before = len(found)
        proven = prove(*args)
        del found[before:]
        return proven

    monkeypatch.setattr(LlamaModel, "forward", counted)
    monkeypatch.setattr(proof, "prove", uncounted)
    return found


def test_the_base_model_runs_once_per_row(tmp_path: Path, recipe: dict[str, Any], calls: list[bool]) -> None:
    recipe["data"]["eval_share"] = 0.0
    kept = run_recipe(recipe, tmp_path, overrides=["run.name=kept"])
    assert len(calls) == 12 + 2 and not any(calls)  # 24 rows in micro-batches of 2, over 3 epochs; two are compared
    calls.clear()
    plain = run_recipe(recipe, tmp_path, overrides=["run.name=plain", "freezing.features=off"])
    assert len(calls) == 36 and not any(calls)  # without dropout here too
    assert_same(kept, plain)


def test_loader_processes_know_the_places(tmp_path: Path, recipe: dict[str, Any], calls: list[bool]) -> None:
    recipe["data"]["eval_share"] = 0.0
    run = run_recipe(recipe, tmp_path, overrides=["run.workers=2"])
    assert has_kept(run) and len(calls) == 12 + 2


@pytest.mark.full
@pytest.mark.parametrize("step", [2, 7])
def test_a_resumed_run_is_bitwise_equal(tmp_path: Path, recipe: dict[str, Any], step: int) -> None:
    recipe["checkpoints"] = {"every": 1, "keep": 99}
    recipe["batching"] = {"name": "bucketed", "max_length": 128}
    whole = run_recipe(recipe, tmp_path)
    moved = tmp_path / "resumed"
    shutil.copytree(whole.run_dir, moved / "runs" / "recipe")
    for path in (moved / "runs" / "recipe" / "checkpoints").iterdir():
        if int(path.name.removeprefix("checkpoint-")) > step:
            shutil.rmtree(path)
    resumed = run_recipe(recipe, moved, resume=True)
    assert losses(resumed) == losses(whole)
    assert_same_weights(whole, resumed)


# -- where it is kept ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", ["0", "1e-5"], ids=["all in a file", "half of it"])
def test_what_does_not_fit_into_memory_lies_in_a_file(tmp_path: Path, recipe: dict[str, Any], memory: str) -> None:
    in_memory = run_recipe(recipe, tmp_path)
    filed = run_recipe(recipe, tmp_path, overrides=["run.name=filed", f"freezing.memory_gb={memory}"])
    event = said(filed)
    assert has_kept(filed) and event["file_bytes"] > 0 and bool(event["memory_bytes"]) == (memory != "0")
    assert event["memory_bytes"] + event["file_bytes"] == said(in_memory)["memory_bytes"]
    assert losses(filed) == losses(in_memory)
    assert {path.name for path in filed.run_dir.iterdir()} == {path.name for path in in_memory.run_dir.iterdir()}


def test_beyond_all_bounds_the_base_model_runs(tmp_path: Path, recipe: dict[str, Any], calls: list[bool]) -> None:
    recipe["data"]["eval_share"] = 0.0
    run = run_recipe(recipe, tmp_path, overrides=["freezing.memory_gb=1e-6", "freezing.disk_gb=2e-5"])
    assert not has_kept(run) and "would take about" in said(run)["reason"]
    assert len(calls) == 1 + 36  # the first micro-batch shows it
    assert_same(run, run_recipe(recipe, tmp_path, overrides=["run.name=plain", "freezing.features=off"]))


def test_vectors_come_back_from_memory_and_file(tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(0)
    for dtype in (torch.float32, torch.bfloat16):
        room = Budget(Features(memory_gb=300 * dtype.itemsize / 1e9, disk_gb=1), tmp_path)
        kept = Vectors(1000, room)
        values = torch.randn(200, 3, generator=draw).to(dtype)
        tokens = torch.randperm(1000, generator=draw)[:200].numpy()
        with room.files:
            for start in range(0, 200, 7):
                kept.put(tokens[start : start + 7], values[start : start + 7])
            kept.finish()
        assert 0 < room.in_memory <= 300 * dtype.itemsize and room.used == 600 * dtype.itemsize
        chosen = torch.randperm(200, generator=draw)[:50].numpy()
        found = kept.get(kept.slots[tokens[chosen]])
        assert found.dtype == dtype and torch.equal(found, values[torch.from_numpy(chosen)])
        assert (kept.slots >= 0).sum() == 200
    assert not list(tmp_path.iterdir())


def test_room_ends_in_memory_and_then_on_disk(tmp_path: Path) -> None:
    room = Budget(Features(memory_gb=10e-9, disk_gb=20e-9), tmp_path)
    assert [room.take(6), room.take(6), room.take(2), room.take(12)] == [True, False, False, False]
    with pytest.raises(NotCached, match="more than the 1e-08 GB in memory and 2e-08 GB on disk"):
        room.take(1)


def test_a_full_disk_is_no_error(tmp_path: Path, recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10))
    run = run_recipe(recipe, tmp_path, overrides=["freezing.memory_gb=0"])
    assert run.error is None and "has 0.0 MB left" in said(run)["reason"]


# -- where it cannot be --------------------------------------------------------------------------------------------


class Rebuild(Regularizer):
    """A regularizer that changes modules."""

    name: Literal["acme.rebuild"] = "acme.rebuild"

    def build(self, ctx: RegularizerContext) -> Regularization:
        """Yield a change of the norm."""
        return Regularization(modify=lambda model: nn.init.constant_(model.get_submodule("model.norm").weight, 2.0))


def test_not_where_a_regularizer_changes_modules(tmp_path: Path, recipe: dict[str, Any]) -> None:
    acme = SimpleNamespace(fttool_strategies=hookimpl(lambda: [Rebuild], specname="fttool_strategies"))
    recipe["regularizers"] = ["acme.rebuild"]
    run = run_recipe(recipe, tmp_path, plugins=plugins(acme=acme))
    assert "a regularizer changes the model's modules" in said(run)["reason"]


def test_not_where_each_row_is_met_once(tmp_path: Path, recipe: dict[str, Any]) -> None:
    run = run_recipe(recipe, tmp_path, overrides=["run.epochs=1"])
    assert "hardly any of them twice" in said(run)["reason"]


def test_not_where_the_forward_pass_goes_around_the_base_model(tmp_path: Path, recipe: dict[str, Any]) -> None:
    opt = {"ffn_dim": 24, "word_embed_proj_dim": 16}  # OPT calls base_model.decoder
    recipe["model"] = {
        "source": save(random_model(transformers.OPTForCausalLM, transformers.OPTConfig, **opt), tmp_path / "m")
    }
    run = run_recipe(recipe, tmp_path)
    assert run.error is None and "calls its base model's forward 0 times" in said(run)["reason"]


def test_a_signal_while_features_are_computed_ends_the_run(tmp_path: Path, recipe: dict[str, Any]) -> None:
    class Killer:
        @hookimpl
        def fttool_logged(self, step: int) -> None:
            if step == 0:
                os.kill(os.getpid(), signal.SIGTERM)

    recipe["plugins"] = {"observe": ["acme"]}
    stopped = run_recipe(recipe, tmp_path, plugins=plugins(acme=Killer()))
    assert stopped.exit_code == 143 and stopped.summary["status"] == "interrupted" and stopped.summary["steps"] == 0
    quiet = plugins(acme=SimpleNamespace(fttool_logged=hookimpl(lambda: None, specname="fttool_logged")))
    assert run_recipe(recipe, tmp_path, plugins=quiet, resume=True).summary["status"] == "finished"


# -- what the losses depend on -------------------------------------------------------------------------------------


class Tiny(nn.Module):
    """A base model of two outputs, and a head of the test's choice."""

    def __init__(self, head: Callable[[Tensor, Tensor], Tensor], trained: Tensor) -> None:
        super().__init__()
        self.base_model = nn.Embedding(10, 4)
        self.base_model.weight.requires_grad_(False)
        self.trained = nn.Parameter(trained)
        self.head = head

    def score(self, _: Any, batch: Any) -> Predictions:
        losses_N = self.head(self.base_model(batch["input_ids"]), self.trained)
        return Predictions(logits_NV=losses_N, targets_N=losses_N, losses_N=losses_N)


IDS = torch.tensor([[1, 2, 3], [4, 5, 0]])
PLACES = np.array([[0, 1, 2], [3, 4, -1]])


def read_by(head: Callable[[Tensor, Tensor], Tensor], trained: Tensor) -> list[list[bool]]:
    """Which places the head reads."""
    torch.manual_seed(0)
    model = Tiny(head, trained)
    (output,) = observe(model.score, model, {"input_ids": IDS}, PLACES).outputs
    assert output.read is not None
    return output.read.tolist()


def test_a_head_of_zeros_still_reads() -> None:
    assert read_by(lambda h, w: h[:, 1] @ w, torch.zeros(4)) == [[False, True, False]] * 2


def test_dropout_in_the_head_draws_nothing_from_the_run() -> None:
    before = torch.random.get_rng_state()
    head = lambda h, w: nn.functional.dropout(h[:, 0], 0.5) @ w  # noqa: E731
    torch.manual_seed(0)
    model = Tiny(head, torch.ones(4))
    state = torch.random.get_rng_state()
    observe(model.score, model, {"input_ids": IDS}, PLACES)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.random.set_rng_state(before)


def test_a_mean_under_a_mask_may_be_kept() -> None:
    mask = torch.tensor([[1.0, 1, 1], [1, 1, 0]])
    assert read_by(lambda h, w: (h * mask[..., None]).mean(1) @ w, torch.ones(4)) == [[True] * 3] * 2


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (lambda h, w: h.amax(1) @ w, "depend on more of it than their gradients show"),  # the largest, of all
        (lambda h, w: h.mean(1).square() @ w, "depend on more of it than their gradients show"),  # padding counts
        (lambda h, w: w[:2].square(), "do not depend on what it computes"),
    ],
    ids=["a maximum", "a mean without a mask", "nothing"],
)
def test_what_a_head_reads_in_other_ways_is_not_kept(head: Any, why: str) -> None:
    with pytest.raises(NotCached, match=why):
        read_by(head, torch.ones(4))


def test_a_vector_of_a_sequence_belongs_to_one_row(tmp_path: Path) -> None:
    model = Tiny(lambda h, w: h @ w, torch.ones(4))
    model.base_model.forward = lambda ids: torch.ones(len(ids), 4)
    found = observe(model.score, model, {"input_ids": IDS}, PLACES)
    kept = FeatureCache(5, Budget(Features(memory_gb=1, disk_gb=0), tmp_path))
    kept.add(found, PLACES, rows=[0, 1])
    with pytest.raises(NotCached, match="several rows share one"):
        kept.add(found, PLACES, rows=[0, 1, 2])


def test_features_that_give_other_losses_are_not_used(
    tmp_path: Path, recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes back of what was kept is held against the model's own forward before the first update."""
    from fttool.features.cache import Vectors

    plain = run_recipe(recipe, tmp_path, overrides=["run.name=plain", "freezing.features=off"])
    get = Vectors.get
    monkeypatch.setattr(Vectors, "get", lambda self, slots: get(self, slots[::-1]))  # those of other tokens
    mended = run_recipe(recipe, tmp_path, overrides=["run.name=mended"])
    assert not has_kept(mended) and "gives losses that differ from the model's" in said(mended)["reason"]
    assert losses(mended) == losses(plain)
