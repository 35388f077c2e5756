"""The number formats that each precision yields, on each kind of hardware."""

import pytest
import torch
from pydantic import ValidationError

from fttool.api import Numerics, Precision, PrecisionContext, RecipeError
from fttool_plugins.precision import fttool_strategies
from fttool_plugins.precision.auto import Auto
from fttool_plugins.precision.bf16 import Bf16
from fttool_plugins.precision.fp16 import Fp16
from fttool_plugins.precision.fp32 import Fp32


def numerics(strategy: Precision, device: str, native_bf16: bool) -> Numerics:
    return strategy.build(PrecisionContext(device=torch.device(device), native_bf16=native_bf16))


def test_the_room_lists_them():
    assert [strategy.id() for strategy in fttool_strategies()] == ["auto", "fp32", "bf16", "fp16"]


@pytest.mark.parametrize(
    ("strategy", "device", "native_bf16", "autocast"),
    [
        (Auto(), "cpu", False, "no"),
        (Auto(), "cpu", True, "bf16"),
        (Auto(), "cuda:1", False, "no"),
        (Auto(), "cuda:1", True, "bf16"),
        (Auto(), "mps", False, "no"),
        (Fp32(), "cpu", True, "no"),
        (Fp32(), "cuda", True, "no"),
        (Bf16(), "cuda", True, "bf16"),
        (Bf16(), "cpu", False, "bf16"),
        (Fp16(), "cuda", False, "fp16"),
        (Fp16(), "mps", False, "fp16"),
    ],
)
def test_format_of_the_computation(strategy, device, native_bf16, autocast):
    made = numerics(strategy, device, native_bf16)
    assert made.autocast == autocast
    assert made.weights == "float32"


@pytest.mark.parametrize("native_bf16", [False, True])
def test_auto_names_the_device_and_what_it_chose(native_bf16):
    reason = numerics(Auto(), "cuda:1", native_bf16).reason
    assert "cuda:1" in reason
    assert reason.startswith("bf16" if native_bf16 else "fp32")


def test_bf16_on_a_cpu_without_it_says_that_it_is_emulated():
    assert "emulated" in numerics(Bf16(), "cpu", False).reason
    assert "emulated" not in numerics(Bf16(), "cpu", True).reason


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_bf16_on_an_accelerator_without_it_is_refused(device):
    with pytest.raises(RecipeError, match=f"{device} does not compute in bfloat16") as caught:
        numerics(Bf16(), device, False)
    assert 'precision = "fp16"' in caught.value.problems[0].hint


def test_fp16_on_a_cpu_is_refused():
    with pytest.raises(RecipeError, match="on a CPU") as caught:
        numerics(Fp16(), "cpu", True)
    assert 'precision = "fp32"' in caught.value.problems[0].hint


def test_bfloat16_weights_only_when_asked_for_and_with_a_warning():
    made = numerics(Bf16(weights="bfloat16"), "cuda", True)
    assert made.weights == "bfloat16"
    assert "lose small updates" in made.reason
    assert torch.tensor(0.02, dtype=torch.bfloat16) - 1e-5 == torch.tensor(0.02, dtype=torch.bfloat16)


@pytest.mark.parametrize("strategy", [Fp16, Fp32, Auto])
def test_no_other_precision_has_half_weights(strategy):
    with pytest.raises(ValidationError):
        strategy(weights="float16")
