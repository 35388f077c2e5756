"""Pulls under fused AdamW, EWC and mixout on this machine's GPU, beside their twins on the CPU, all in fp32."""

from __future__ import annotations

from pathlib import Path

from part import Found, RunError, check, largest_difference, main, run, together

CASES = {
    "l2-init": ('regularizers=[{name="l2-init",strength=1e-3}]', 1e-4),
    "decoupled": ('regularizers=[{name="l2-init",strength=1e-3,decoupled=true}]', 1e-4),
    "ewc": ('regularizers=[{name="ewc",strength=1,examples=EXAMPLES,fisher="empirical"}]', 1e-3),
    # its masks are drawn by the device, so the curves agree in the mean and not number by number
    "mixout": ('regularizers=[{name="mixout",p=0.1}]', 5e-2),
}
"""The setting of each, and the bound on the relative difference of its losses to those of its twin."""


def measure(folder: Path, quick: bool) -> Found:
    """The largest difference of each one's losses to those of its twin."""
    examples, steps = (4, 2) if quick else (50, 20)
    length = (f"run.max_steps={steps}", "data.eval_share=0", "data.retention=[]", "precision=fp32")

    def pair(name: str) -> Found:
        pull = CASES[name][0].replace("EXAMPLES", str(examples))
        try:
            ours = run(folder, name, "gentle.toml", *length, pull)
            twin = run(folder, f"{name}-twin", "gentle.toml", *length, pull, cpu=True)
        except RunError as fault:
            return {"failed": str(fault)}
        return {"largest_difference": largest_difference(ours.losses, twin.losses)}

    found = dict(zip(CASES, together(*(lambda name=name: pair(name) for name in CASES)), strict=True))
    checks = [
        check(f"{name}: losses against its twin's on the CPU", one["largest_difference"], CASES[name][1])
        for name, one in found.items()
        if "largest_difference" in one
    ]
    return {**found, "checks": checks}


if __name__ == "__main__":
    main(measure, __doc__)
