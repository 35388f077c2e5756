"""The machine and the libraries around a run: which device, what it can do, and who must keep quiet."""

from __future__ import annotations

import io
import logging
import os
import sys
from contextlib import redirect_stdout
from importlib.util import find_spec
from typing import TYPE_CHECKING

from fttool.errors import Problem, RecipeError, UsageError

if TYPE_CHECKING:
    import torch

NO_TELEMETRY = ("HF_HUB_DISABLE_TELEMETRY", "DISABLE_TELEMETRY", "DO_NOT_TRACK")
NO_BARS = ("TQDM_DISABLE", "HF_HUB_DISABLE_PROGRESS_BARS")
OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
SET_HERE: set[str] = set()
"""Variables that nobody but this process has set: a user has forbidden nothing by them."""
FULL = ("out of memory", "allocate memory", "cublas_status_alloc_failed", "failed to cuda calloc")
"""What is said where memory has run out, in lower case: by CUDA, the C library, cuBLAS and NCCL."""
SAID_TWICE = ("ACCELERATE_MIXED_PRECISION", "ACCELERATE_GRADIENT_ACCUMULATION_STEPS")
VERBOSITY = ("TRANSFORMERS_VERBOSITY", "DATASETS_VERBOSITY", "HF_HUB_VERBOSITY")


def quiet_libraries(*, network: bool) -> None:
    """No telemetry; and no network, nor the download's progress bar, unless it is asked for.

    Without a terminal there is no bar of a library at all: in a log each of its steps is a line, or a very long one.

    Must run before transformers or datasets are imported: they read their environment once.
    """
    if network:
        _set(*NO_TELEMETRY)
        _quiet_deepspeed()
        if not sys.stderr.isatty():
            _set(*NO_BARS)
            _disable_bars()
    else:
        stay_local()
        _disable_bars()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # loader processes fork after the tokenizer was used
    logging.getLogger("transformers.modeling_utils").addFilter(_misses_no_mask)


def _disable_bars() -> None:
    """For a process that had imported the libraries before its environment was set."""
    from huggingface_hub.utils import disable_progress_bars
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    disable_progress_bars()


def _misses_no_mask(record: logging.LogRecord) -> bool:
    """transformers warns of padding without an attention mask; what padding does to its model, a run proves."""
    return "passing in an `attention_mask`" not in record.getMessage()


def _quiet_deepspeed() -> None:
    """Where it is installed, transformers imports it, and it logs to stdout, where events may be."""
    if find_spec("deepspeed") is None:
        return
    with redirect_stdout(io.StringIO()):
        import deepspeed  # noqa: F401  # pyright: ignore[reportUnusedImport]
    log = logging.getLogger("DeepSpeed")
    log.handlers.clear()
    log.propagate = True
    log.setLevel(logging.WARNING)


def show_libraries() -> None:
    """What the libraries log comes to stderr, from `info` on; must run before transformers or datasets are imported."""
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    for name in VERBOSITY:
        os.environ.setdefault(name, "info")


def stay_local() -> None:
    """No network, no telemetry and no progress bars of others in this process."""
    _set(*OFFLINE, *NO_TELEMETRY, *NO_BARS)
    _quiet_deepspeed()


def _set(*names: str) -> None:
    for name in names:
        if name not in os.environ:
            SET_HERE.add(name)
            os.environ[name] = "1"


def heed_the_recipe_alone() -> None:
    """Forget what `accelerate launch` says of number formats and accumulation: it would silently win over a recipe.

    And let transformers not compare a resumed run's arguments: fttool compares recipes, and knows what may differ.
    """
    for name in SAID_TWICE:
        os.environ.pop(name, None)
    logging.getLogger("transformers.trainer_utils").addFilter(_compares_no_arguments)


def _compares_no_arguments(record: logging.LogRecord) -> bool:
    return "trainer_state.json" not in record.getMessage()


def device() -> torch.device:
    """Where to train: a GPU where there is one."""
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def named_device(name: str) -> torch.device:
    """`cpu`, `cuda`, `cuda:1`, `mps`; raises `UsageError` for one that this machine does not have."""
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    there = ["cpu", *["cuda"][:gpus], *(f"cuda:{index}" for index in range(gpus))]
    there += ["mps"] if torch.backends.mps.is_available() else []
    if name not in there:
        raise UsageError(f"this machine has no device '{name}'", hint=f"it has {', '.join(there)}")
    return torch.device(name)


def refuse_missing_gpu(on: torch.device) -> None:
    """Raise `RecipeError` in a process of a run for which this machine has no GPU; CUDA would say so much later."""
    import torch

    if on.type != "cuda" or "LOCAL_RANK" not in os.environ:
        return
    place, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if place >= there:
        message = f"there is no GPU for process {place + 1} on this machine, which shows {there}"
        hint = "one process a GPU: lower sharding.processes; SLURM must show each task all of them (--gpus-per-node)"
        raise RecipeError(Problem(message, hint=hint, key=("sharding",)))


def memory_bytes(on: torch.device, processes: int) -> int:
    """Memory of the device, or of the machine where the computation is on its CPU and shared by so many processes."""
    import psutil
    import torch

    if on.type == "cuda":
        return torch.cuda.get_device_properties(int(os.environ.get("LOCAL_RANK", "0"))).total_memory
    return int(psutil.virtual_memory().total) // processes


def native_bf16(on: torch.device) -> bool:
    """True where the hardware computes in bfloat16 itself; emulation is slower than float32."""
    import torch

    if on.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if on.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported())  # pyright: ignore[reportPrivateUsage]
    return False


def ran_out_of_memory(fault: BaseException) -> bool:
    """True where there was no memory left, on a GPU or in the machine."""
    import torch

    return isinstance(fault, MemoryError | torch.OutOfMemoryError) or any(words in str(fault).lower() for words in FULL)
