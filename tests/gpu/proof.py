"""Packed rows under each attention kernel that this machine has: what the run's own proof finds, and its losses."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from part import Found, RunError, check, gpu, largest_difference, main, run, together

BOUND = 1e-4
"""Relative difference of the losses under one kernel to those under another, in fp32."""


def measure(folder: Path, quick: bool) -> Found:
    """The proof's figures and the loss curve by kernel; `eager` is the one that the others are held to."""
    kernels = ["eager", "sdpa"]
    if gpu():
        kernels += ["flex_attention"] + (["flash_attention_2"] if find_spec("flash_attn") else [])
    settings = (f"run.max_steps={2 if quick else 10}", "batching.name=packed", "data.eval_share=0", "evaluation={}")

    def under(kernel: str) -> Found:
        # flash-attention takes 16-bit numbers alone
        precision = "bf16" if kernel.startswith("flash") else "fp32"
        try:
            chosen = (f"model.attention={kernel}", f"precision={precision}")
            made = run(folder, kernel, "quickstart.toml", *settings, *chosen)
        except RunError as fault:
            return {"failed": str(fault)}
        return {"losses": made.losses, "proof": made.summary.get("proof")}

    found = dict(zip(kernels, together(*(lambda kernel=kernel: under(kernel) for kernel in kernels)), strict=True))
    plain = found["eager"].get("losses")
    checks = [
        check(
            f"{kernel}: losses of packed rows against eager's",
            largest_difference(found[kernel]["losses"], plain),
            200 * BOUND if kernel.startswith("flash") else BOUND,
        )
        for kernel in kernels[1:]
        if plain and "losses" in found[kernel]
    ]
    return {**found, "checks": checks}


if __name__ == "__main__":
    main(measure, __doc__)
