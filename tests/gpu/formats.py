"""The quickstart in bf16, fp16 and fp32 on this machine's GPU, beside the CPU's losses in fp32."""

from __future__ import annotations

from pathlib import Path

from part import Found, RunError, check, gpu, largest_difference, main, run, together

BOUNDS = {"fp32": 1e-4, "bf16": 2e-2, "fp16": 1e-2}
"""Relative difference of each update's loss to the CPU's: rounding of 2⁻²⁴, 2⁻⁹ and 2⁻¹² that adds up over updates."""


def measure(folder: Path, quick: bool) -> Found:
    """Loss curves and evaluation losses by number format."""
    steps = 3 if quick else 60
    settings = (f"run.max_steps={steps}", "evaluation.samples=0")
    formats = list(BOUNDS) if gpu() else ["fp32", "bf16"]  # fp16 is refused on a CPU

    def on_gpu(precision: str) -> Found:
        try:
            made = run(folder, precision, "quickstart.toml", *settings, f"precision={precision}")
        except RunError as fault:
            return {"failed": str(fault)}
        after = made.summary["eval"]["after"]["loss"]
        skipped = made.summary.get("skipped_updates")
        return {"losses": made.losses, "eval_loss": after, "skipped_updates": skipped}

    twin, *found = together(
        lambda: run(folder, "twin", "quickstart.toml", *settings, "precision=fp32", cpu=True),
        *(lambda precision=precision: on_gpu(precision) for precision in formats),
    )
    by_format = dict(zip(formats, found, strict=True))
    theirs = twin.summary["eval"]["after"]["loss"]
    checks = [
        check(f"{name}: losses against the CPU's in fp32", largest_difference(one["losses"], twin.losses), BOUNDS[name])
        for name, one in by_format.items()
        if "losses" in one and not one["skipped_updates"]  # a skipped update makes another curve
    ]
    for name, one in by_format.items():
        if "losses" in one:
            what = f"{name}: evaluation loss after {steps} updates against the CPU's"
            checks.append(check(what, abs(one["eval_loss"] - theirs) / theirs, 5 * BOUNDS[name]))
    of_twin = {"eval_loss": theirs, "losses": twin.losses}
    return {"updates": steps, "twin": of_twin, **by_format, "checks": checks}


if __name__ == "__main__":
    main(measure, __doc__)
