"""A run that stopped half-way and went on, against one that never stopped: equal to the bit, or by how much not."""

from __future__ import annotations

from pathlib import Path

from part import Found, check, main, run, together

BOUND = 1e-3
"""Largest difference of a weight. CUDA's kernels may add in another order each time, so equality is not asked for."""


def measure(folder: Path, quick: bool) -> Found:
    """The largest difference of a weight, for a run that stopped, and for the same run made twice."""
    half = 2 if quick else 15
    settings = ("schedule=constant", "data.eval_share=0", "evaluation={}", "checkpoints.every=1000")
    whole = f"run.max_steps={2 * half}"

    def stopped() -> Found:
        run(folder, "stopped", "quickstart.toml", *settings, f"run.max_steps={half}")
        return run(folder, "stopped", "quickstart.toml", *settings, whole, resume=True).weights()

    straight, again, resumed = together(
        lambda: run(folder, "straight", "quickstart.toml", *settings, whole).weights(),
        lambda: run(folder, "again", "quickstart.toml", *settings, whole).weights(),
        stopped,
    )

    def largest(ours: Found) -> float:
        return max(float((ours[name] - straight[name]).abs().max()) for name in straight)

    found = {"resumed": largest(resumed), "made_twice": largest(again)}
    return {
        **{f"largest_difference_{name}": value for name, value in found.items()},
        "bitwise": found["resumed"] == 0.0,
        "checks": [check("largest difference of a weight after resuming", found["resumed"], BOUND)],
    }


if __name__ == "__main__":
    main(measure, __doc__)
