"""Of a stranger's checkpoint: what the engines would run is found without being run, and data alone is let through."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException

from fttool_plugins.sharding.pickles import code_in_deepspeed, code_in_distributed


class Planted:
    """Makes a file when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (exec, (f"open({str(self.mark)!r}, 'w').close()",))


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "ran"


def state() -> dict[str, Any]:
    group = {"lr": 0.1, "betas": (0.9, 0.99), "params": ["w"], "foreach": None}
    return {"w": torch.arange(6.0).view(2, 3), "step": torch.tensor(3), "half": torch.ones(2).half(), "groups": [group]}


def distributed(folder: Path, **more: Any) -> Path:
    """As accelerate writes them: the list of contents, and a file of each process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save({"optimizer": {**state(), **more}}, checkpoint_id=folder / "optimizer_0", no_dist=True)
    return folder


def read_by_torch(folder: Path, **more: Any) -> None:
    """With its own reader, which knows no limit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.load({"optimizer": {**state(), **more}}, checkpoint_id=folder / "optimizer_0", no_dist=True)


def test_data_alone_is_let_through(tmp_path: Path) -> None:
    assert code_in_distributed(distributed(tmp_path)) == ""


@pytest.mark.parametrize("name", [".metadata", "__0.metadata"])  # the second is read where the first is missing
def test_code_in_the_list_of_contents(tmp_path: Path, mark: Path, name: str) -> None:
    folder = distributed(tmp_path)
    (folder / "optimizer_0" / ".metadata").unlink()
    (folder / "optimizer_0" / name).write_bytes(pickle.dumps(Planted(mark)))
    assert code_in_distributed(folder) == f"optimizer_0/{name}: it names builtins.exec"
    assert not mark.exists()
    with pytest.raises(CheckpointException):  # but only after
        read_by_torch(folder)
    assert mark.exists()


def test_code_in_a_value(tmp_path: Path, mark: Path) -> None:
    folder = distributed(tmp_path, evil=Planted(mark))
    found = code_in_distributed(folder)
    assert found.startswith("optimizer_0/__0_0.distcp: ") and not mark.exists()
    read_by_torch(folder, evil=0)
    assert mark.exists()


def test_values_that_lie_elsewhere(tmp_path: Path) -> None:
    folder = distributed(tmp_path)
    file = folder / "optimizer_0" / ".metadata"
    metadata = pickle.loads(file.read_bytes())
    for place in metadata.storage_data.values():
        place.relative_path = "../elsewhere.distcp"
    file.write_bytes(pickle.dumps(metadata))
    assert code_in_distributed(folder) == "optimizer_0/.metadata: it names '../elsewhere.distcp'"


@pytest.mark.parametrize("content", [b"", b"not a pickle", b"\x80\x04N."])
def test_what_is_not_a_list_of_contents(tmp_path: Path, content: bytes) -> None:
    folder = distributed(tmp_path)
    (folder / "optimizer_0" / ".metadata").write_bytes(content)
    assert code_in_distributed(folder).startswith("optimizer_0/.metadata: ")


def deepspeed(folder: Path, **more: Any) -> Path:
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    scalers = {"loss_scaler": LossScaler(1.0), "dynamic": DynamicLossScaler(2**16, 2, 1000, 1.0, 1, False, torch.half)}
    held = {**scalers, "zero_stage": ZeroStageEnum.gradients, "slice": fragment_address(start=0, numel=6)}
    (folder / "global_step2").mkdir()
    (folder / "latest").write_text("global_step2")
    torch.save({"optimizer_state_dict": {**held, **state()}, **more}, folder / "global_step2" / "a_optim_states.pt")
    return folder


def test_what_deepspeed_writes_is_let_through(tmp_path: Path) -> None:
    assert code_in_deepspeed(deepspeed(tmp_path)) == ""


def test_code_in_a_file_of_deepspeed(tmp_path: Path, mark: Path) -> None:
    folder = deepspeed(tmp_path, evil=Planted(mark))
    file = folder / "global_step2" / "a_optim_states.pt"
    assert code_in_deepspeed(folder).startswith("global_step2/a_optim_states.pt: ") and not mark.exists()
    torch.load(file, weights_only=False)
    assert mark.exists()


@pytest.mark.parametrize("content", [b"", b"not a file of torch"])
def test_what_is_not_a_file_of_deepspeed(tmp_path: Path, content: bytes) -> None:
    folder = deepspeed(tmp_path)
    (folder / "global_step2" / "b_model_states.pt").write_bytes(content)
    assert code_in_deepspeed(folder).startswith("global_step2/b_model_states.pt: ")


@pytest.mark.parametrize("tag", ["..", "/tmp", "global_step2/..", "", "../elsewhere"])
def test_a_folder_that_is_not_the_checkpoints(tmp_path: Path, tag: str) -> None:
    folder = deepspeed(tmp_path)
    (folder / "latest").write_text(tag)
    assert code_in_deepspeed(folder) == f"latest: it names '{tag}', which is not a folder of the checkpoint"
