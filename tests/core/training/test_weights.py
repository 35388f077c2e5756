"""A checkpoint holds what trains and what changes by itself, and knows the rest when it sees it again."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

from fttool.api import UsageError
from fttool.training import weights


def model(seed: int = 0) -> nn.Module:
    """Two layers around a batch norm, whose running mean is no parameter; a tied projection; a buffer left unsaved."""
    torch.manual_seed(seed)
    made = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    made.tied = nn.Linear(3, 4, bias=False)
    made.tied.weight = made[0].weight
    made.register_buffer("scratch", torch.zeros(2), persistent=False)
    return made


TRAINED = {"2.weight", "2.bias"}


def test_only_what_trains_is_written_and_buffers(tmp_path: Path) -> None:
    weights.save(model(), TRAINED, tmp_path)
    with safe_open(tmp_path / weights.FILE, framework="pt") as file:
        names = set(file.keys())
    assert names == {*TRAINED, "1.running_mean", "1.running_var", "1.num_batches_tracked"}


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    trained, fresh = model(), model()
    with torch.no_grad():
        trained[2].weight.add_(1)
    trained.train()(torch.ones(5, 3))
    weights.save(trained, TRAINED, tmp_path)
    weights.load(fresh, TRAINED, tmp_path)
    for (name, one), (_, other) in zip(trained.state_dict().items(), fresh.state_dict().items(), strict=True):
        assert torch.equal(one, other), name


@pytest.mark.parametrize("change", ["another bit", "another shape of training", "another format"])
def test_other_frozen_weights_are_refused(tmp_path: Path, change: str) -> None:
    weights.save(model(), TRAINED, tmp_path)
    other, trained = model(), set(TRAINED)
    if change == "another bit":
        with torch.no_grad():
            bits = other[0].bias.view(torch.int32)
            bits[1] ^= 1
    elif change == "another format":
        other[0].to(torch.bfloat16)
    else:
        trained -= {"2.bias"}
    before = other[2].weight.clone()
    with pytest.raises(UsageError, match="are not those it was saved beside"):
        weights.load(other, trained, tmp_path)
    assert torch.equal(other[2].weight, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_fingerprint_tells_weights_names_and_shapes_apart(dtype: torch.dtype) -> None:
    def of(**parts: torch.Tensor) -> str:
        return weights.fingerprint(nn.ParameterDict(parts).to(dtype), set())

    ones, draw = torch.ones(2, 3), torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    found = [of(a=ones), of(a=draw), of(b=draw), of(a=draw.T.contiguous()), of(a=draw, b=ones), of(a=-draw)]
    assert len(set(found)) == len(found)
    assert of(a=draw) == of(a=draw.clone())
