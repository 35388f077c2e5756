"""What a run asks of its machine."""

from __future__ import annotations

import pytest
import torch

from fttool.errors import RecipeError
from fttool.machine import refuse_missing_gpu


def test_each_process_needs_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("LOCAL_RANK", "3")
    refuse_missing_gpu(torch.device("cuda"))
    monkeypatch.setenv("LOCAL_RANK", "4")
    with pytest.raises(RecipeError, match="no GPU for process 5 on this machine, which shows 4"):
        refuse_missing_gpu(torch.device("cuda"))
    refuse_missing_gpu(torch.device("cpu"))
