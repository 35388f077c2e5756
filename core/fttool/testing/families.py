"""The contract of each family, for tests that find their strategies by themselves."""

from __future__ import annotations

from fttool.testing.batches import BatchingContract, MixingContract
from fttool.testing.contract import Contract
from fttool.testing.formats import FormatContract
from fttool.testing.model import FreezingContract, LayerRatesContract, ModelSourceContract
from fttool.testing.readers import ReaderContract
from fttool.testing.rows import FilterContract, MaskingContract
from fttool.testing.score import MetricContract, TaskContract
from fttool.testing.update import (
    OptimizerContract,
    PrecisionContract,
    RegularizerContract,
    ScheduleContract,
    ShardingContract,
)

CONTRACTS: dict[str, type[Contract]] = {
    "model": ModelSourceContract,
    "reader": ReaderContract,
    "format": FormatContract,
    "filter": FilterContract,
    "mixing": MixingContract,
    "masking": MaskingContract,
    "batching": BatchingContract,
    "freezing": FreezingContract,
    "layer_rates": LayerRatesContract,
    "optimizer": OptimizerContract,
    "schedule": ScheduleContract,
    "regularizer": RegularizerContract,
    "precision": PrecisionContract,
    "sharding": ShardingContract,
    "task": TaskContract,
    "metric": MetricContract,
}
"""Family → its contract."""
