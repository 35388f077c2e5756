"""`micro_batch = "auto"`: memory that runs out, injected, changes how many rows go at once and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tomli_w import dumps
from transformers import LlamaForCausalLM

from fttool.errors import OutOfMemoryError
from fttool.recipe.reading import load
from fttool.testing import run_recipe
from fttool.training import proof
from fttool.training.passes import attempted, pieces

from ...rows import write_talks
from ...runs import assert_same_weights, losses

FULL = "CUDA out of memory. Tried to allocate 2.00 GiB"


def micro_batch(*lengths: int) -> dict[str, Any]:
    """Rows of these lengths, padded on the right."""
    width = max(lengths)
    ids = torch.arange(len(lengths) * width).reshape(len(lengths), width)
    mask = torch.tensor([[int(place < length) for place in range(width)] for length in lengths])
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "places": ids.numpy(),
        "targets": ids[:, 0],
        "rows": [[i] for i in range(len(lengths))],
    }


def test_pieces_are_the_rows_in_order_without_needless_padding() -> None:
    whole = micro_batch(5, 3, 2, 2, 1)
    found = list(pieces(whole, 2))
    assert [piece["rows"] for piece in found] == [[[0], [1]], [[2], [3]], [[4]]]
    assert [tuple(piece["input_ids"].shape) for piece in found] == [(2, 5), (2, 2), (1, 1)]
    for start, piece in zip((0, 2, 4), found, strict=True):
        size, width = piece["input_ids"].shape
        for key in ("input_ids", "attention_mask", "places"):
            assert (piece[key] == whole[key][start : start + size, :width]).all()
        assert piece["targets"].equal(whole["targets"][start : start + size])


def test_padding_in_front_is_no_padding_behind() -> None:
    """A batching strategy of others may put it there: nothing that is filled is cut off."""
    whole = micro_batch(4, 2)
    whole["attention_mask"] = whole["attention_mask"].flip(1)
    assert [tuple(piece["input_ids"].shape) for piece in pieces(whole, 1)] == [(1, 4), (1, 4)]


def test_targets_of_several_classes_are_never_cut() -> None:
    """There may be as many classes as slots."""
    whole = {**micro_batch(6, 6, 3, 3), "targets": torch.zeros(4, 6)}
    assert [tuple(piece["targets"].shape) for piece in pieces(whole, 2)] == [(2, 6), (2, 6)]


def test_a_micro_batch_that_fits_and_one_without_a_mask_keep_their_tensors() -> None:
    whole = micro_batch(4, 2)
    assert next(pieces(whole, 2)) is whole
    del whole["attention_mask"]  # packed sequences have none
    assert [tuple(piece["input_ids"].shape) for piece in pieces(whole, 1)] == [(1, 4), (1, 4)]


def test_only_want_of_memory_is_taken_for_it() -> None:
    def fail(fault: Exception) -> Callable[[Any], Any]:
        def work(piece: Any) -> Any:
            raise fault

        return work

    for fault in (
        torch.OutOfMemoryError(FULL),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ):
        assert attempted(fail(fault), [{}]) is None
    with pytest.raises(RuntimeError, match="shapes"):
        attempted(fail(RuntimeError("shapes do not match")), [{}])


@pytest.fixture
def recipe(fttool_recipe: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    rows = write_talks(tmp_path / "rows.jsonl", 40)
    fttool_recipe["run"] = {"max_steps": 6, "micro_batch": "auto", "global_batch": 8, "log_every": 1, "seed": 3}
    fttool_recipe["data"] = {"train": [{"path": str(rows), "format": "messages"}], "eval_share": 0.2}
    fttool_recipe["optimizer"] = {"name": "adamw", "lr": 5e-3}
    fttool_recipe["evaluation"] = {"samples": 0}
    return fttool_recipe


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Let a GPU's memory run out on more than so many rows: in the forward pass, or at the end of the backward pass.

    The few short rows of the proof before the first update always find room.
    """
    proving: list[bool] = []

    def have_room(
        training: int = 99, evaluation: int = 99, *, backward: bool = False, unplugged_at: int = -1
    ) -> list[int]:
        tried: list[int] = []

        def limited(self: Any, *arguments: Any, input_ids: torch.Tensor, **more: Any) -> Any:
            rows = len(input_ids)
            if proving:
                return forward(self, *arguments, input_ids=input_ids, **more)
            tried.append(rows if self.training else -rows)
            if len(tried) == unplugged_at:
                raise KeyError("unplugged")
            if rows > (training if self.training else evaluation):
                if not (backward and self.training):
                    raise torch.OutOfMemoryError(FULL)
                embedding = self.model.embed_tokens.weight
                handle = embedding.register_post_accumulate_grad_hook(lambda _: fail(handle))
            return forward(self, *arguments, input_ids=input_ids, **more)

        def fail(handle: Any) -> None:
            handle.remove()
            raise torch.OutOfMemoryError(FULL)

        monkeypatch.setattr(LlamaForCausalLM, "forward", limited)
        return tried

    def prove_with_room(*arguments: Any) -> proof.Proven:
        proving.append(True)
        try:
            return prove(*arguments)
        finally:
            proving.clear()

    prove = proof.prove
    monkeypatch.setattr(proof, "prove", prove_with_room)
    forward = LlamaForCausalLM.forward
    return have_room


@pytest.mark.parametrize("batching", ["padded", "bucketed", "packed"])
@pytest.mark.parametrize("backward", [False, True])
def test_the_same_update_is_made_again_in_halves(
    tmp_path: Path, recipe: dict[str, Any], room: Any, batching: str, backward: bool
) -> None:
    recipe["batching"] = {"name": batching, "max_length": 128}
    expected = run_recipe(recipe, tmp_path, overrides=["run.micro_batch=2", "run.name=two"])
    tried = room(3, backward=backward)
    found = run_recipe(recipe, tmp_path, overrides=["run.name=auto"])
    assert found.exit_code == 0, found.error
    assert losses(found) == pytest.approx(losses(expected), rel=1e-6)
    if batching != "packed":  # there slots that pad stay, and tensors of another width round otherwise
        assert_same_weights(expected, found)
    trained = [rows for rows in tried if rows > 0]
    assert trained[:3] == [8, 4, 2] and set(trained[3:]) <= {1, 2}
    halvings = [event for event in found.events if event["event"] == "out_of_memory"]
    assert [(one["step"], one["use"], one["was"], one["now"]) for one in halvings] == [
        (0, "training", 8, 4),
        (0, "training", 4, 2),
    ]
    assert [one["train_tokens"] for one in found.metrics if "loss" in one] == [
        one["train_tokens"] for one in expected.metrics if "loss" in one
    ]


def test_evaluation_has_room_of_its_own(tmp_path: Path, recipe: dict[str, Any], room: Any) -> None:
    expected = run_recipe(recipe, tmp_path, overrides=["run.name=whole"])
    tried = room(99, 3)
    found = run_recipe(recipe, tmp_path, overrides=["run.name=auto"])
    assert found.summary["eval"]["after"]["loss"] == pytest.approx(expected.summary["eval"]["after"]["loss"], rel=1e-6)
    assert [rows for rows in tried if rows < 0][:3] == [-8, -4, -2] and max(tried) == 8


@pytest.mark.full
def test_a_resumed_run_keeps_what_was_found(tmp_path: Path, recipe: dict[str, Any], room: Any) -> None:
    recipe["checkpoints"] = {"every": 2}
    tried = room(3)
    whole = run_recipe(recipe, tmp_path, overrides=["run.name=whole"])
    room(3, unplugged_at=len(tried) // 2 + 1)
    with pytest.raises(KeyError, match="unplugged"):
        run_recipe(recipe, tmp_path, overrides=["run.name=resumed"])
    tried = room(3)
    resumed = run_recipe(recipe, tmp_path, overrides=["run.name=resumed"], resume=True)
    assert resumed.exit_code == 0 and max(tried) == 2
    assert_same_weights(whole, resumed)


def test_a_run_is_resumed_with_fewer_rows_at_once(
    tmp_path: Path, recipe: dict[str, Any], room: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe["run"]["micro_batch"] = 4
    recipe["checkpoints"] = {"every": 2}
    expected = run_recipe(recipe, tmp_path, overrides=["run.name=whole"])
    room(unplugged_at=7)
    with pytest.raises(KeyError, match="unplugged"):
        run_recipe(recipe, tmp_path, overrides=["run.name=less"])
    tried = room()
    capfd.readouterr()
    found = run_recipe(recipe, tmp_path, overrides=["run.name=less", "run.micro_batch=2"], resume=True)
    assert found.exit_code == 0 and max(tried) == 2
    assert "trainer_state.json" not in capfd.readouterr().err
    assert losses(found) == pytest.approx(losses(expected), rel=1e-6)


def test_features_are_computed_in_passes_too(tmp_path: Path, recipe: dict[str, Any], room: Any) -> None:
    del recipe["run"]["max_steps"]
    recipe["run"]["epochs"] = 2
    recipe["freezing"] = {"name": "head-only", "untie": True}
    expected = run_recipe(recipe, tmp_path, overrides=["run.name=whole"])
    room(3, 3)
    found = run_recipe(recipe, tmp_path, overrides=["run.name=auto"])
    assert found.error is None
    assert losses(found) == pytest.approx(losses(expected), rel=1e-5)
    assert found.summary["fits"]["features"] == 2
    assert any(one["event"] == "features_kept" for one in found.events)


def test_fewer_rows_divide_what_an_update_gives_a_process(tmp_path: Path, recipe: dict[str, Any]) -> None:
    file = tmp_path / "r.toml"
    file.write_text(dumps(recipe))
    table = "sharding={name='ddp',processes=2}"
    for share, found in ((7, 1), (8, 4), (9, 3), (14, 7), (15, 5), (1, 1)):
        assert load(file, [table, f"run.global_batch={2 * share}"]).recipe.fewer_at_once(share) == found
    assert load(file, [table, "run.global_batch=28"]).recipe.fewer_at_once(7) == 2


def test_one_row_that_does_not_fit_ends_the_run_with_advice(tmp_path: Path, recipe: dict[str, Any], room: Any) -> None:
    room(0)
    found = run_recipe(recipe, tmp_path)
    assert isinstance(found.error, OutOfMemoryError)
    assert "micro_batch" not in str(found.error) and "gradient_checkpointing" in str(found.error)


def test_a_fixed_micro_batch_is_not_halved(tmp_path: Path, recipe: dict[str, Any], room: Any) -> None:
    room(3)
    found = run_recipe(recipe, tmp_path, overrides=["run.micro_batch=4"])
    assert isinstance(found.error, OutOfMemoryError) and "run.micro_batch = 2" in str(found.error)


def test_auto_needs_a_global_batch(tmp_path: Path, recipe: dict[str, Any]) -> None:
    del recipe["run"]["global_batch"]
    found = run_recipe(recipe, tmp_path)
    assert found.exit_code == 3 and "needs run.global_batch" in str(found.error)
