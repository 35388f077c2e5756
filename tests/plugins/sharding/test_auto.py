"""`auto` takes the least sharding that fits, and says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fttool.api import Memory, RecipeError, ShardingContext, ShardingPlan
from fttool_plugins.sharding.auto import Auto
from fttool_plugins.sharding.ddp import DDP
from fttool_plugins.sharding.fsdp import FSDP

from .sizes import table

GIB = 2**30
SEVEN = Memory(
    weights=28 * GIB,
    gathered=14 * GIB,
    copies=14 * GIB,
    gradients=28 * GIB,
    optimizer=56 * GIB,
    unit=GIB,
    activations=4 * GIB,
    device=80 * GIB,
)
"""A model of about seven billion parameters in fp32 under autocast: 130 GiB, and 158 with the buckets of `ddp`."""


def plan(processes: int, **options: Any) -> ShardingPlan:
    auto = Auto(processes=processes, **options)
    return auto.build(ShardingContext(device=torch.device("cuda"), memory=lambda: SEVEN))


@pytest.mark.parametrize(
    ("memory_gb", "processes", "said"),
    [
        (180, 1, "none, 133,120 of 184,320 MiB in each process by estimate"),
        (180, 8, "ddp, 161,792 of 184,320 MiB in each process by estimate"),
        (175, 8, "fsdp (reshard_after_forward = false), 32,768 of 179,200 MiB"),
        (36, 8, "fsdp (reshard_after_forward = false), 32,768 of 36,864 MiB"),
        (35, 8, "fsdp, 20,480 of 35,840 MiB"),
        (20, 8, "fsdp (cpu_offload = true), 6,144 of 20,480 MiB"),
        (35, 2, "fsdp (cpu_offload = true), 6,144 of 35,840 MiB"),
        (6, 8, "fsdp (cpu_offload = true), 6,144 of 6,144 MiB"),
        (100, 1, "none, 133,120 of 102,400 MiB in each process by estimate, and nothing takes less"),
    ],
)
def test_the_least_that_fits(memory_gb: float, processes: int, said: str) -> None:
    assert plan(processes, memory_gb=memory_gb).reason.startswith(said)


def test_it_says_what_less_sharding_would_take_and_when_nothing_fits() -> None:
    assert plan(8, memory_gb=35).reason.endswith("; fsdp (reshard_after_forward = false) would take 32,768")
    assert "would take" not in plan(8, memory_gb=180).reason
    assert plan(8, memory_gb=6).reason.endswith("and nothing takes less: it may not fit")


def test_the_plan_is_that_of_the_strategy_with_the_options_of_the_launch() -> None:
    assert plan(1, memory_gb=180).arguments == {}
    context = ShardingContext(device=torch.device("cuda"))
    options: dict[str, Any] = {"processes": 8, "timeout": 99, "max_restarts": 2, "nodes": 2}
    assert plan(**options, memory_gb=180).arguments == DDP(**options).build(context).arguments
    assert plan(**options, memory_gb=20).arguments == FSDP(**options, cpu_offload=True).build(context).arguments
    assert plan(**options).arguments == FSDP(**options, reshard_after_forward=False).build(context).arguments
    assert Auto(**options).launch == FSDP(**options).launch


def test_without_a_model_nothing_is_chosen() -> None:
    with pytest.raises(RecipeError, match="when the model is loaded"):
        Auto(processes=2).build(ShardingContext(device=torch.device("cuda")))


def test_one_process_is_never_sharded_and_is_not_refused() -> None:
    assert not Auto(processes=1).sharded and Auto(processes=2).sharded


def test_the_page_shows_what_it_takes_for_which_model() -> None:
    assert table() in (Path(__file__).parents[3] / "docs" / "scale.md").read_text()
