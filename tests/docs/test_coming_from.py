"""The tables of settings: every key of fttool is one, with a value that it takes; those of trl are there too."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from .keys import wrong

PAGE = (Path(__file__).parents[2] / "docs" / "coming-from.md").read_text(encoding="utf-8")
TOOLS = ("axolotl", "LLaMA-Factory", "trl")


def rows(tool: str) -> Iterator[tuple[list[str], list[str]]]:
    """What a table's lines have in their first and second cell, as code."""
    section = PAGE.partition(f"\n## {tool}\n")[2].partition("\n## ")[0]
    for line in section.splitlines():
        if line.startswith("| `"):
            theirs, ours = line.strip("| ").split("|")[:2]
            yield re.findall(r"`([^`]+)`", theirs), re.findall(r"`([^`]+)`", ours)


@pytest.mark.parametrize("tool", TOOLS)
def test_every_key_on_our_side_is_one(tool: str) -> None:
    table = list(rows(tool))
    ours = {setting for _, some in table for setting in some}
    assert len(table) >= 35 and len(ours) >= 35
    assert {setting for setting in ours if wrong(setting)} == set()


def test_what_is_not_a_key_is_found() -> None:
    assert wrong("optimizer.rate") and wrong("optimiser.lr") and wrong('schedule.name = "cosin"')
    assert wrong("run.micro_batch = -1") and wrong('data.train.format = "gpt"')
    assert not wrong("optimizer.lr") and not wrong('data.train.format = "alpaca"') and not wrong("run.micro_batch = 2")


def test_trls_keys_are_those_of_the_installed_trl() -> None:
    from trl.scripts.utils import ScriptArguments
    from trl.trainer.model_config import ModelConfig
    from trl.trainer.sft_config import SFTConfig

    known = {field.name for kind in (ScriptArguments, ModelConfig, SFTConfig) for field in dataclasses.fields(kind)}
    theirs = {setting for some, _ in rows("trl") for setting in some if "(" not in setting}
    assert len(theirs) >= 50 and theirs - known == set()


def test_defaults_of_trl_are_as_the_page_says() -> None:
    from trl.trainer.sft_config import SFTConfig

    defaults = {field.name: field.default for field in dataclasses.fields(SFTConfig)}
    assert (defaults["learning_rate"], defaults["max_length"], defaults["num_train_epochs"]) == (2e-5, 1024, 3.0)
    assert (defaults["lr_scheduler_type"], defaults["warmup_steps"]) == ("linear", 0)
