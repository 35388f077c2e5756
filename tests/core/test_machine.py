"""What a run asks of its machine."""

from __future__ import annotations

import logging
import os
import sys
from types import SimpleNamespace

import psutil
import pytest
import torch

from fttool.errors import RecipeError, UsageError
from fttool.machine import (
    NO_BARS,
    NO_TELEMETRY,
    SAID_TWICE,
    device,
    heed_the_recipe_alone,
    memory_bytes,
    named_device,
    native_bf16,
    quiet_libraries,
    refuse_missing_gpu,
)


def test_each_process_needs_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("LOCAL_RANK", "3")
    refuse_missing_gpu(torch.device("cuda"))
    monkeypatch.setenv("LOCAL_RANK", "4")
    with pytest.raises(RecipeError, match="no GPU for process 5 on this machine, which shows 4"):
        refuse_missing_gpu(torch.device("cuda"))
    refuse_missing_gpu(torch.device("cpu"))


def test_a_device_is_named_that_the_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert [str(named_device(name)) for name in ("cpu", "cuda", "cuda:1")] == ["cpu", "cuda", "cuda:1"]
    for name in ("cuda:2", "mps", "meta", "gpu", "cuda:", ""):
        with pytest.raises(UsageError, match=f"no device '{name}'") as refused:
            named_device(name)
        assert refused.value.problems[0].hint == "it has cpu, cuda, cuda:0, cuda:1"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="no device 'cuda'"):
        named_device("cuda")


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


@pytest.mark.parametrize(("there", "taken"), [("cuda mps", "cuda"), ("mps", "mps"), ("", "cpu")])
def test_a_gpu_is_taken_where_there_is_one(there: str, taken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in there)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in there)
    assert device().type == taken


def test_memory_is_that_of_the_processs_own_gpu_or_a_share_of_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [8, 24]
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda place: SimpleNamespace(total_memory=sizes[place]))
    assert memory_bytes(torch.device("cuda"), 2) == 8
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert memory_bytes(torch.device("cuda"), 2) == 24
    whole = memory_bytes(torch.device("cpu"), 1)
    assert whole == psutil.virtual_memory().total and memory_bytes(torch.device("cpu"), 2) == whole // 2


def test_bf16_counts_where_the_hardware_computes_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Emulation is slower than float32, and is not asked for."""
    asked: list[bool] = []

    def supported(including_emulation: bool = True) -> bool:
        asked.append(including_emulation)
        return True

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert native_bf16(torch.device("cuda")) and asked == [False]
    for has in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has=has: has)
        assert native_bf16(torch.device("cpu")) is has
    assert not native_bf16(torch.device("mps"))


def test_what_another_launcher_says_twice_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SAID_TWICE:
        monkeypatch.setenv(name, "bf16")
    log = logging.getLogger("transformers.trainer_utils")
    before = list(log.filters)
    heed_the_recipe_alone()
    try:
        assert not set(SAID_TWICE) & set(os.environ)
        said = [log.makeRecord(log.name, 30, "f", 1, text, (), None) for text in ("in trainer_state.json: x", "other")]
        assert [bool(log.filter(one)) for one in said] == [False, True]
    finally:
        log.filters[:] = before
