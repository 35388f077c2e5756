"""GPUs that a run may be rented on, and what has been published of training on them.

`PUBLISHED` has what others have measured, with its source: dense models, all weights training unless LoRA is said, in
bf16. The time of a run follows from the share of a GPU's peak that such runs reach, at the size that is nearest. What a
run reaches on a GPU of which nobody has published anything comes from all the others', and the interval says so.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from fttool.api import UsageError, did_you_mean

FOUNDRY = "mosaicml/llm-foundry, scripts/train/benchmarking/README.md"
TITAN = "pytorch/torchtitan, benchmarks/llama3_h100_202412_torchtitan.md"
TUNE = "pytorch/torchtune, README.md"
AUTOMODEL = "NVIDIA-NeMo/Automodel, docs/performance-summary.mdx, of 2026-06-12"
PEAKS = "stas00/ml-engineering, compute/accelerator"

RECOMPUTED = 4 / 3
"""Operations of an update whose activations are all computed twice, over those of one that keeps them."""
FARTHER = 1.3
"""By what an interval grows for each factor of ten between a model's size and those that were measured."""
NARROWEST = 1.15
"""An interval's half width, as a factor, where the table's rows agree: codes differ by as much on one GPU (torchtitan's
two runs of one model by 1.16)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GPU:
    """A kind of GPU."""

    name: str
    memory_gib: float
    """That a program sees, in 2³⁰ bytes."""
    peak: float
    """TFLOP/s of dense matrix products in bf16, or fp16 where it has no bf16."""
    source: str
    """Of `peak`."""
    price: tuple[float, float] | None = None
    """Dollars per hour, from–to."""
    noted: str = ""
    """When and where the price was noted."""
    bf16: bool = True
    """It computes in bf16."""


_RENT = "2026-11-30, from an article on fine-tuning that docs/cost.md checks"
GPUS: tuple[GPU, ...] = (
    GPU(name="a100-40", memory_gib=40, peak=312, source=PEAKS, price=(1.5, 3.5), noted=_RENT),
    GPU(name="a100-80", memory_gib=80, peak=312, source=PEAKS, price=(1.5, 3.5), noted=_RENT),
    GPU(name="h100", memory_gib=80, peak=989, source=PEAKS, price=(3.0, 5.0), noted=_RENT),
    GPU(name="h200", memory_gib=140, peak=989, source=PEAKS),
    GPU(name="b200", memory_gib=179, peak=2250, source=PEAKS),
    GPU(name="mi300x", memory_gib=192, peak=1307, source=PEAKS),
    GPU(name="v100", memory_gib=32, peak=125, source="NVIDIA V100 data sheet", bf16=False),
    GPU(name="l4", memory_gib=22.5, peak=121, source="NVIDIA L4 data sheet, without sparsity"),
    GPU(name="rtx4090", memory_gib=24, peak=165, source="NVIDIA Ada white paper, fp32 accumulation, without sparsity"),
)


@dataclass(frozen=True, slots=True)
class Published:
    """A run that somebody has measured and written down."""

    gpu: str
    parameters: float
    sequence: int
    """Tokens."""
    tokens_per_second: float
    """Of each GPU."""
    gpus: int
    mfu: float
    """Share of the peak: operations without recomputation, as the source counts them; by its tokens per second and
    6·parameters + 12·layers·width·tokens where it gives none."""
    recomputed: bool
    source: str
    remark: str = ""

    @property
    def reached(self) -> float:
        """Share of the peak, recomputation counted."""
        return self.mfu * (RECOMPUTED if self.recomputed else 1.0)


PUBLISHED: tuple[Published, ...] = (
    Published("h100", 0.76e9, 2048, 63_147, 8, 0.349, False, FOUNDRY),
    Published("h100", 1.3e9, 2048, 45_455, 8, 0.418, False, FOUNDRY),
    Published("a100-80", 1.3e9, 2048, 20_513, 8, 0.599, False, FOUNDRY),
    Published("a100-80", 2.7e9, 2048, 10_811, 8, 0.621, False, FOUNDRY),
    Published("a100-80", 6.7e9, 2048, 4_641, 8, 0.642, False, FOUNDRY),
    Published("h100", 6.7e9, 2048, 10_643, 8, 0.464, False, FOUNDRY),
    Published("a100-80", 6.7e9, 4096, 3_684, 8, 0.548, True, FOUNDRY),
    Published("h100", 6.7e9, 4096, 8_611, 8, 0.404, True, FOUNDRY),
    Published("a100-80", 6.7e9, 32_768, 1_672, 8, 0.495, True, FOUNDRY),
    Published("a100-80", 12.9e9, 4096, 2_060, 8, 0.576, True, FOUNDRY),
    Published("h100", 12.9e9, 4096, 4_717, 8, 0.416, True, FOUNDRY),
    Published("a100-80", 30e9, 2048, 916, 8, 0.553, True, FOUNDRY),
    Published("h100", 30e9, 2048, 2_002, 8, 0.381, True, FOUNDRY),
    Published("a100-80", 65e9, 2048, 410, 64, 0.533, True, FOUNDRY, "weights in bf16"),
    Published("h100", 65e9, 2048, 1_039, 64, 0.426, True, FOUNDRY, "weights in bf16"),
    Published("h100", 8.03e9, 8192, 5_762, 8, 0.33, False, TITAN),
    Published("h100", 8.03e9, 8192, 6_667, 8, 0.39, False, TITAN, "compiled"),
    Published("h100", 70.6e9, 8192, 867, 64, 0.39, False, AUTOMODEL),
    Published("h100", 8.03e9, 4096, 12_473, 1, 0.406, False, AUTOMODEL, "LoRA"),
    Published("h100", 70.6e9, 4096, 1_092, 8, 0.320, False, AUTOMODEL, "LoRA"),
    Published("a100-80", 3.21e9, 4096, 7_075, 1, 0.53, False, TUNE, "packed; the share by our count"),
    Published("a100-80", 3.21e9, 4096, 7_210, 1, 0.54, True, TUNE, "packed, compiled; the share by our count"),
    Published("rtx4090", 8.03e9, 2048, 1_650, 1, 0.52, True, TUNE, "packed; the share by our count"),
)
SAME_CHIP = {"a100-40": "a100-80", "h200": "h100"}
"""GPUs that compute alike and differ in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Operations per second and GPU that a run will reach, by what is known."""

    low: float
    middle: float
    high: float
    source: str


def find_gpu(name: str) -> GPU:
    """The GPU of a name; `UsageError` with the nearest ones."""
    wanted = name.strip().lower().replace("_", "-")
    found = next((gpu for gpu in GPUS if gpu.name == wanted), None)
    if found is None:
        hint = did_you_mean(wanted, [gpu.name for gpu in GPUS])
        raise UsageError(f"unknown GPU '{name}'", hint=hint)
    return found


def rate(gpu: GPU, parameters: float, *, recomputed: bool) -> Rate:
    """What a run of a model of that size reaches on a GPU, from the runs that were published."""
    own = [row for row in PUBLISHED if row.gpu == SAME_CHIP.get(gpu.name, gpu.name)]
    if len(own) < 2:
        return _from_others(gpu, own)
    alike = [row for row in own if row.recomputed == recomputed]
    rows = alike if len(alike) >= 2 else own
    middle = interpolated(rows, parameters)
    half = max(NARROWEST, *(_ratio(row.reached, _without(rows, row)) for row in rows if _has_others(rows, row)))
    half *= FARTHER ** _distance(rows, parameters)
    sources = ", ".join(dict.fromkeys(row.source.split(",")[0] for row in rows))
    where = f"an {rows[0].gpu}, which computes alike" if rows[0].gpu != gpu.name else "it"
    return Rate(
        low=middle / half * gpu.peak * 1e12,
        middle=middle * gpu.peak * 1e12,
        high=min(1.0, middle * half) * gpu.peak * 1e12,
        source=f"{len(rows)} published runs on {where} ({sources})",
    )


def interpolated(rows: Sequence[Published], parameters: float) -> float:
    """The share of the peak at a size: along the logarithm of the size, the mean where several runs have one size."""
    sizes = sorted({row.parameters for row in rows})
    points = [
        (math.log(size), sum(reached) / len(reached))
        for size in sizes
        if (reached := [row.reached for row in rows if row.parameters == size])
    ]
    wanted = math.log(parameters)
    if wanted <= points[0][0]:
        return points[0][1]
    for (below, low), (above, high) in itertools.pairwise(points):
        if wanted <= above:
            return low + (high - low) * (wanted - below) / (above - below)
    return points[-1][1]


def _without(rows: Sequence[Published], row: Published) -> float:
    return interpolated([other for other in rows if other is not row], row.parameters)


def _has_others(rows: Sequence[Published], row: Published) -> bool:
    """True where a row lies between others, so that they say something of it."""
    sizes = [other.parameters for other in rows if other is not row]
    return bool(sizes) and min(sizes) <= row.parameters <= max(sizes)


def _ratio(first: float, second: float) -> float:
    return max(first / second, second / first)


def _distance(rows: Sequence[Published], parameters: float) -> float:
    """Factors of ten between a size and those of the rows; 0 between the smallest and the largest."""
    sizes = [row.parameters for row in rows]
    return max(0.0, math.log10(min(sizes) / parameters), math.log10(parameters / max(sizes)))


def _from_others(gpu: GPU, own: Sequence[Published]) -> Rate:
    """From the share of their peak that runs on all GPUs have reached."""
    shares = sorted(row.reached for row in PUBLISHED)
    middle = sum(row.reached for row in own) / len(own) if own else shares[len(shares) // 2]
    what = f"1 published run on it ({own[0].source.split(',')[0]}), and the" if own else "no published run on it; the"
    return Rate(
        low=shares[0] * gpu.peak * 1e12,
        middle=middle * gpu.peak * 1e12,
        high=shares[-1] * gpu.peak * 1e12,
        source=f"{what} {shares[0]:.0%}–{shares[-1]:.0%} of the peak that runs on others reached",
    )
