"""Contracts for plugin authors, and a pytest plugin with what they need.

    from fttool.testing import ScheduleContract

    class TestTrapezoid(ScheduleContract):
        strategy = Trapezoid
        options = ({}, {"climb": 0.2})

A contract is a class of tests that every strategy of a family must pass; fttool's own do. Subclass it once per
strategy, with one mapping of options per variant that is worth a test.

The pytest plugin brings the fixtures `fttool_tiny_model` (a folder with a tiny random Llama and its tokenizer),
`fttool_rows` (a file of rows), and `fttool_recipe` (a recipe over both, as a dictionary). `run_recipe` runs a recipe,
`plugins` isolates a test from what is installed.

pytest loads this module wherever fttool is installed, so the contracts behind it are imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from fttool.testing.fixtures import fttool_recipe, fttool_rows, fttool_tiny_model

if TYPE_CHECKING:
    from fttool.testing.batches import BatchingContract, MixingContract
    from fttool.testing.contract import Contract
    from fttool.testing.families import CONTRACTS
    from fttool.testing.formats import FormatContract
    from fttool.testing.model import FreezingContract, LayerRatesContract, ModelSourceContract
    from fttool.testing.readers import ReaderContract
    from fttool.testing.rows import FilterContract, MaskingContract, filter_context
    from fttool.testing.runs import RunResult, plugins, run_recipe
    from fttool.testing.score import MetricContract, TaskContract
    from fttool.testing.tiny import (
        tiny_batch,
        tiny_encoded,
        tiny_examples,
        tiny_labelled,
        tiny_model,
        tiny_score,
        tiny_tagged,
        tiny_tokenizer,
    )
    from fttool.testing.update import (
        OptimizerContract,
        PrecisionContract,
        RegularizerContract,
        ScheduleContract,
        ShardingContract,
        regularizer_context,
    )

_PLACES = {
    "batches": ("BatchingContract", "MixingContract"),
    "contract": ("Contract",),
    "families": ("CONTRACTS",),
    "formats": ("FormatContract",),
    "model": ("FreezingContract", "LayerRatesContract", "ModelSourceContract"),
    "readers": ("ReaderContract",),
    "rows": ("FilterContract", "MaskingContract", "filter_context"),
    "runs": ("RunResult", "plugins", "run_recipe"),
    "score": ("MetricContract", "TaskContract"),
    "tiny": (
        "tiny_batch",
        "tiny_encoded",
        "tiny_examples",
        "tiny_labelled",
        "tiny_model",
        "tiny_score",
        "tiny_tagged",
        "tiny_tokenizer",
    ),
    "update": (
        "OptimizerContract",
        "PrecisionContract",
        "RegularizerContract",
        "ScheduleContract",
        "ShardingContract",
        "regularizer_context",
    ),
}
_MODULES = {name: f"fttool.testing.{module}" for module, names in _PLACES.items() for name in names}

pytest.register_assert_rewrite(*sorted(set(_MODULES.values())))  # so that a broken law shows its two sides


def __getattr__(name: str) -> Any:
    """Import a public name's module on first use."""
    if name not in _MODULES:
        raise AttributeError(f"module 'fttool.testing' has no attribute '{name}'")
    return getattr(import_module(_MODULES[name]), name)


__all__ = [
    "CONTRACTS",
    "BatchingContract",
    "Contract",
    "FilterContract",
    "FormatContract",
    "FreezingContract",
    "LayerRatesContract",
    "MaskingContract",
    "MetricContract",
    "MixingContract",
    "ModelSourceContract",
    "OptimizerContract",
    "PrecisionContract",
    "ReaderContract",
    "RegularizerContract",
    "RunResult",
    "ScheduleContract",
    "ShardingContract",
    "TaskContract",
    "filter_context",
    "fttool_recipe",
    "fttool_rows",
    "fttool_tiny_model",
    "plugins",
    "regularizer_context",
    "run_recipe",
    "tiny_batch",
    "tiny_encoded",
    "tiny_examples",
    "tiny_labelled",
    "tiny_model",
    "tiny_score",
    "tiny_tagged",
    "tiny_tokenizer",
]
