"""`kl-init` against hand-written loops: the same values and updates, on learned and on general rows, however split."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from fttool.api import MicroBatch, Predictions, RecipeError
from fttool.testing import run_recipe, tiny_batch, tiny_model
from fttool.testing.tiny import tiny_encoded
from fttool.testing.update import regularizer_context
from fttool_plugins.regularizer.kl_init import KLInit, divergence

from ...rows import write_rows


def said(logits_NV: Tensor, targets_N: Tensor) -> Predictions:
    return Predictions(logits_NV=logits_NV, targets_N=targets_N, losses_N=logits_NV.new_zeros(len(logits_NV)))


def by_hand(before: Sequence[float], now: Sequence[float]) -> float:
    """Σ p₀ log(p₀ / p) of two distributions."""
    return sum(p * math.log(p / q) for p, q in zip(before, now, strict=True))


def softened(logits: Sequence[float], temperature: float) -> list[float]:
    powers = [math.exp(one / temperature) for one in logits]
    return [one / sum(powers) for one in powers]


# -- the mathematics -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 2.0, 0.5])
def test_the_divergence_is_that_of_the_formula(temperature: float) -> None:
    before, now, targets = [[1.0, 2.0, -3.0], [0.0, 0.5, 0.2]], [[0.5, 2.5, 1.0], [0.0, 0.5, 0.2]], torch.tensor([0, 1])
    found = divergence(said(torch.tensor(before), targets), said(torch.tensor(now), targets), temperature)
    expected = [
        temperature**2 * by_hand(softened(one, temperature), softened(other, temperature))
        for one, other in zip(before, now, strict=True)
    ]
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=1e-7)
    assert found[1] == 0


def test_of_several_classes_each_is_decided_for_itself() -> None:
    before, now = torch.randn(3, 4), torch.randn(3, 4)
    targets = torch.randint(0, 2, (3, 4))
    yes, other = before.sigmoid().tolist(), now.sigmoid().tolist()
    expected = [
        sum(by_hand([p, 1 - p], [q, 1 - q]) for p, q in zip(one, two, strict=True))
        for one, two in zip(yes, other, strict=True)
    ]
    found = divergence(said(before, targets), said(now, targets), 1.0)
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-4, atol=1e-6)


# -- against a loop by hand ------------------------------------------------------------------------------------------


def logits(model: Any, row: Any) -> tuple[Tensor, Tensor]:
    """All of a row's logits and next tokens at its learned places, row by row and without a batch."""
    ids, labels = torch.tensor([row.input_ids]), torch.tensor(row.labels)
    places = [place for place in range(len(labels) - 1) if labels[place + 1] != -100]
    return model(input_ids=ids).logits[0, places], labels[1:][places]


def score(model: Any, batch: Mapping[str, Tensor]) -> Predictions:
    """A task's, in the precision of the model."""
    targets_BT = F.pad(batch["labels"][:, 1:], (0, 1), value=-100)
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    logits_NV, targets_N = model(**inputs).logits[targets_BT != -100], targets_BT[targets_BT != -100]
    losses_N = F.cross_entropy(logits_NV, targets_N, reduction="none")
    return Predictions(logits_NV=logits_NV, targets_N=targets_N, losses_N=losses_N)


def companions(update: int, rows: Sequence[int], seed: int = 17, count: int = 3) -> list[int]:
    return [random.Random(f"{seed} {update} {row}").randrange(count) for row in rows]


@pytest.mark.parametrize("on", ["learned", "general"])
@pytest.mark.parametrize("split", [[[0, 1, 2]], [[0], [1, 2]], [[2], [0], [1]]], ids=["whole", "two", "three"])
def test_updates_are_those_of_a_loop_by_hand(on: Any, split: list[list[int]], tmp_path: Path) -> None:
    """Three updates by SGD: values and weights, whatever the micro-batches."""
    rows, rate = tiny_encoded(), 0.5
    ours, theirs, start = (tiny_model().double() for _ in range(3))
    built = KLInit(strength=0.7, on=on, temperature=2.0).build(regularizer_context(ours, tmp_path, score=score))
    assert built.loss is not None
    for update in range(3):
        expected = torch.zeros((), dtype=torch.float64)
        compared = [rows[row] for row in ([0, 1, 2] if on == "learned" else companions(update, [0, 1, 2]))]
        places = 0
        for row in compared:
            with torch.no_grad():
                before, _ = logits(start, row)
            now, _ = logits(theirs, row)
            soft, log = (before / 2).softmax(-1), (now / 2).log_softmax(-1)
            expected = expected + 0.7 * 4 * (soft * ((before / 2).log_softmax(-1) - log)).sum()
            places += len(now)
        expected = expected / places
        pairs = [logits(theirs, row) for row in rows]
        task = F.cross_entropy(torch.cat([one for one, _ in pairs]), torch.cat([two for _, two in pairs]))
        (task + expected).backward()

        batches = [MicroBatch(inputs=tiny_batch([rows[r] for r in some]), rows=some, update=update) for some in split]
        found = 0.0
        tokens = [int((batch.inputs["labels"] != -100).sum()) for batch in batches]
        items = tokens if built.items is None else [built.items(batch) for batch in batches]
        assert sum(items) == places
        for batch, share in zip(batches, items, strict=True):
            predictions = score(ours, batch.inputs)
            term = built.loss(ours, batch, predictions) * share / sum(items)
            found += term.item()
            (predictions.losses_N.sum() / sum(tokens) + term).backward()
        assert found == pytest.approx(expected.item(), rel=1e-6, abs=1e-12)
        assert (found == 0) == (update == 0)
        with torch.no_grad():
            for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
                torch.testing.assert_close(p.grad, q.grad, rtol=1e-6, atol=1e-7)  # Llama's norms are float32
                p.sub_(p.grad, alpha=rate)  # type: ignore[arg-type]
                q.sub_(q.grad, alpha=rate)  # type: ignore[arg-type]
                p.grad = q.grad = None


def test_the_frozen_model_has_no_gradient_and_its_own_format(tmp_path: Path) -> None:
    made: list[Any] = []
    model = tiny_model()
    context = regularizer_context(model, tmp_path)
    again = context.start_model

    def start_model(dtype: str | None) -> Any:
        made.append(again(dtype))
        return made[-1]

    built = KLInit(strength=1.0, dtype="bfloat16").build(regularizer_context(model, tmp_path, start_model=start_model))
    batch = tiny_batch(tiny_encoded())
    for update in range(2):
        built.loss(
            model, MicroBatch(inputs=batch, rows=[0, 1, 2], update=update), context.score(model, batch)
        ).backward()
    assert len(made) == 1 and not made[0].training
    assert {p.dtype for p in made[0].parameters()} == {torch.bfloat16}
    assert all(p.grad is None and not p.requires_grad for p in made[0].parameters())
    assert built.memory == 2 * sum(p.numel() for p in model.parameters())


# -- in runs ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def recipe(fttool_recipe: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    turns = [
        [{"role": "user", "content": f"wiki {n}"}, {"role": "assistant", "content": "yes " * (n + 1)}] for n in range(5)
    ]
    path = tmp_path / "wiki.jsonl"
    write_rows(path, ({"messages": one} for one in turns))
    return {
        **fttool_recipe,
        "run": {"max_steps": 4, "micro_batch": 4, "log_every": 1, "seed": 3},
        "data": {**fttool_recipe["data"], "general": [{"path": str(path)}]},
        "optimizer": {"name": "sgd", "lr": 0.5, "momentum": 0.0},
        "schedule": "constant",
        "precision": "fp32",
        "regularizers": [{"name": "kl-init", "strength": 0.5}, {"name": "kl-init", "strength": 0.5, "on": "general"}],
    }


def losses(metrics: Sequence[Mapping[str, Any]]) -> list[tuple[float, ...]]:
    return [tuple(line[key] for key in ("loss", "kl-init", "kl-init.2")) for line in metrics if "loss" in line]


def test_a_run_logs_it_apart_and_accumulation_changes_nothing(recipe: dict[str, Any], tmp_path: Path) -> None:
    found = []
    for micro_batch in (4, 1):
        folder = tmp_path / str(micro_batch)
        folder.mkdir()
        run = {**recipe["run"], "micro_batch": micro_batch, "global_batch": 4}
        done = run_recipe({**recipe, "run": run}, folder)
        assert done.error is None, done.error
        found.append((losses(done.metrics), load_file(done.run_dir / "model" / "model.safetensors")))
    (one, weights), (other, again) = found
    assert one[0][1:] == (0.0, 0.0) and all(value > 0 for line in one[1:] for value in line)
    assert one == [pytest.approx(line, rel=1e-5, abs=1e-9) for line in other]
    for name, values in weights.items():
        torch.testing.assert_close(values, again[name], rtol=1e-6, atol=1e-6)


def test_it_holds_the_model_back(recipe: dict[str, Any], tmp_path: Path) -> None:
    """The stronger it is, the less far the predictions go: the divergence without λ."""
    last = []
    adamw = {"run": {**recipe["run"], "max_steps": 12}, "optimizer": {"name": "adamw", "lr": 0.01}}
    for strength in (0.01, 100.0):
        changed = {**recipe, **adamw, "regularizers": [{"name": "kl-init", "strength": strength}]}
        done = run_recipe(changed, tmp_path, overrides=[f"run.name='s{strength}'"])
        assert done.error is None, done.error
        last.append([line["kl-init"] for line in done.metrics if "loss" in line][-1] / strength)
    assert last[1] < 0.8 * last[0]


def test_a_resumed_run_is_bitwise_equal(recipe: dict[str, Any], tmp_path: Path) -> None:
    recipe["checkpoints"] = {"every": 2}
    recipe["optimizer"] = {"name": "adamw", "lr": 0.01}
    whole = run_recipe(recipe, tmp_path)
    assert whole.error is None, whole.error
    weights, metrics = (whole.run_dir / "model" / "model.safetensors").read_bytes(), losses(whole.metrics)
    checkpoint = whole.run_dir / "checkpoints" / "checkpoint-4"
    for file in checkpoint.iterdir():
        file.unlink()
    checkpoint.rmdir()
    again = run_recipe(recipe, tmp_path, resume=True)
    assert again.error is None, again.error
    assert (again.run_dir / "model" / "model.safetensors").read_bytes() == weights
    assert losses(again.metrics) == metrics


def test_only_learned_places_go_through_the_head(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the frozen model too: what its head sees is as much as is learned."""
    from fttool_plugins.regularizer import kl_init

    seen: list[tuple[int, int]] = []
    real = kl_init.Start.said

    def said_and_seen(self: Any, batch: Any) -> Any:
        found = real(self, batch)
        head = self._model.get_output_embeddings()
        widths: list[int] = []
        handle = head.register_forward_hook(lambda _, given, __: widths.append(given[0].shape[:-1].numel()))
        real(self, batch)
        handle.remove()
        seen.append((widths[0], int((batch["labels"][:, 1:] != -100).sum())))
        return found

    monkeypatch.setattr(kl_init.Start, "said", said_and_seen)
    assert run_recipe(recipe, tmp_path).error is None
    assert seen and all(width == learned for width, learned in seen)


@pytest.mark.parametrize(
    "changes",
    [
        {"freezing": {"name": "lora", "rank": 2}},
        {"freezing": "head-only", "run": {"epochs": 2, "micro_batch": 4, "log_every": 1}},
        {"batching": {"name": "packed", "max_length": 128}},
        {"run": {"max_steps": 3, "micro_batch": "auto", "global_batch": 4, "log_every": 1}},
    ],
    ids=["lora", "features", "packed", "auto"],
)
def test_it_goes_together_with(recipe: dict[str, Any], tmp_path: Path, changes: dict[str, Any]) -> None:
    """Adapters begin as the model without them; what the base model computes is kept; rows share a sequence."""
    done = run_recipe({**recipe, **changes}, tmp_path)
    assert done.error is None, done.error
    found = losses(done.metrics)
    assert found[0][1:] == pytest.approx((0.0, 0.0), abs=1e-6)
    assert all(value > 0 for line in found[2:] for value in line)


def test_a_new_head_is_refused(recipe: dict[str, Any], tmp_path: Path) -> None:
    rows = tmp_path / "classes.jsonl"
    write_rows(rows, ({"text": f"row {n}", "label": n % 2} for n in range(12)))
    changed = {"task": "classification", "data": {"train": [{"path": str(rows)}]}}
    done = run_recipe({**recipe, **changed, "regularizers": [{"name": "kl-init", "strength": 1.0}]}, tmp_path)
    assert "a new head are random" in str(done.error) and done.exit_code == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rows": "wiki"}, "kl-init has rows, and compares those that are learned from"),
        ({"on": "general", "rows": "wik"}, "did you mean 'wiki'?"),
    ],
)
def test_what_contradicts_itself_is_refused(
    recipe: dict[str, Any], tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    done = run_recipe({**recipe, "regularizers": [{"name": "kl-init", "strength": 1.0, **options}]}, tmp_path)
    assert isinstance(done.error, RecipeError) and said in str(done.error)


def test_without_general_rows_there_are_words(fttool_recipe: dict[str, Any], tmp_path: Path) -> None:
    recipe = {**fttool_recipe, "regularizers": [{"name": "kl-init", "strength": 1.0, "on": "general"}]}
    assert "[[data.general]]" in str(run_recipe(recipe, tmp_path).error)
