"""What torch's distributed checkpoints raise becomes what everybody catches, and a full disk stays one."""

from __future__ import annotations

import errno
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed import checkpoint as dcp

from fttool.disk import writing
from fttool.errors import DiskError
from fttool.training.shards import runtime_errors


def test_a_distributed_checkpoint_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"could not be written or read: .*metadata"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with runtime_errors():
            dcp.load({"a": torch.ones(2)}, checkpoint_id=tmp_path, no_dist=True)


def test_a_disk_that_is_full_while_one_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DiskError, match="no space is left on the disk"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with writing(tmp_path), runtime_errors():
            dcp.save({"a": torch.ones(2)}, checkpoint_id=tmp_path / "one", no_dist=True)
