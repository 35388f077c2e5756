"""A newer library that has renamed what fttool overrides: refused before anything is read, by a dry run too."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import Trainer
from trl.trainer.sft_trainer import SFTTrainer

from fttool.runs.stages import model, rows


@pytest.mark.parametrize("words", [(), ("--dry-run",)])
@pytest.mark.parametrize("name", ["_get_grad_norm", "_prepare_for_training", "_save_checkpoint"])
def test_a_renamed_method_is_refused_before_rows_are_read(
    shell: Any, recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch, name: str, words: tuple[str, ...]
) -> None:
    monkeypatch.delattr(Trainer, name)
    monkeypatch.setattr(rows, "prepare", lambda *_, **__: pytest.fail("rows were read"))
    answer = shell.run(recipe, *words)
    answer.refuses(
        1, "transformers ", f"has no Trainer.{name}, which fttool overrides", "known to work: transformers 5."
    )


def test_a_task_whose_trainer_takes_other_parameters_is_refused_before_the_model_is_loaded(
    shell: Any, recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SFTTrainer, "compute_loss", lambda self, model, batch: 0.0)
    monkeypatch.setattr(model, "load_model", lambda *_, **__: pytest.fail("the model was loaded"))
    shell.run(recipe).refuses(1, "trl ", "SFTTrainer.compute_loss has no parameter 'inputs', and fttool overrides it")
