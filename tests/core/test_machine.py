"""What a run asks of its machine."""

from __future__ import annotations

import os
import sys

import pytest
import torch

from fttool.errors import RecipeError
from fttool.machine import NO_BARS, NO_TELEMETRY, quiet_libraries, refuse_missing_gpu


def test_each_process_needs_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("LOCAL_RANK", "3")
    refuse_missing_gpu(torch.device("cuda"))
    monkeypatch.setenv("LOCAL_RANK", "4")
    with pytest.raises(RecipeError, match="no GPU for process 5 on this machine, which shows 4"):
        refuse_missing_gpu(torch.device("cuda"))
    refuse_missing_gpu(torch.device("cpu"))


@pytest.mark.parametrize("terminal", [True, False])
def test_without_a_terminal_no_library_draws_a_bar(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where something is fetched, its bar is for a person who waits for it."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    for name in NO_BARS:
        monkeypatch.delenv(name, raising=False)
    for name in NO_TELEMETRY:
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    enable_progress_bars()
    try:
        quiet_libraries(network=True)
        assert are_progress_bars_disabled() is not terminal
        assert [os.environ.get(name) for name in NO_BARS] == [None if terminal else "1"] * len(NO_BARS)
    finally:
        disable_progress_bars()
        for name in NO_BARS:
            os.environ.pop(name, None)
