"""What regularizers cost: time of an update with and without, of a pull against autograd's penalty, bytes of state.

    python tests/benchmarks/regularizers.py            about ten minutes on two cores
    python tests/benchmarks/regularizers.py --quick    a minute; shows that it works, its figures mean nothing

Runs train the model of `training.py` on 1,024 fully learned tokens an update; a round runs each of them once, another
one first each time, and ratios are taken within a round, of the fastest update of each. A pull is timed alone, in an
optimizer that does nothing else, on eight matrices of 2048 × 2048 numbers, as a model of a billion parameters has them.
Its twin adds the gradient that autograd finds of the penalty.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import report
import workload
from contestants import LEFT_OUT, Timed, prepared_run
from training import rotated
from workload import Case

PULLED = 1.06
"""Time of an update with l2-init, l2-sp or ewc over one without, at 1,000 tokens or more."""
MIXED = 1.15
"""The same with mixout."""
CHEAPER = 3.0
"""Time of autograd's penalty over that of the pull."""

BYTES = {"l2-init": 4, "l2-sp": 4, "ewc": 8, "ema": 4}
"""State that a parameter should cost: θ₀, F, and the average, in float32."""


def main() -> None:
    """Measure all three and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tiny model, one round of few updates")
    parser.add_argument("--rounds", type=int, default=None, help="default: 7, or 1 with --quick")
    options = parser.parse_args()
    rounds, quick = options.rounds or (1 if options.quick else 7), options.quick
    found: dict[str, Any] = {"benchmark": "regularizers", "machine": report.machine(), "rounds": rounds}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if quick:
            parameters = workload.write_model(folder / "model", layers=2, hidden=64, inner=64)
            workload.write_rows(folder, full_rows=16, full_length=32, chat_rows=1)
            case = Case("full", 4, 2)
        else:
            parameters = workload.write_model(folder / "model")
            workload.write_rows(folder, full_rows=96, full_length=128, chat_rows=1)
            case = Case("full", 12, 8)
        found["parameters"] = parameters
        found |= updates(folder, case, rounds)
        found |= state(folder, parameters)
    found |= pulls(rounds, side=64 if quick else 2048)
    report.show(found)


def regularizers(folder: Path) -> dict[str, dict[str, Any]]:
    """The tables of a recipe by name; `ewc` reads its importance, as finding it is not part of an update."""
    file = folder / "importance.safetensors"
    if not file.exists():
        import torch
        from safetensors.torch import load_file, save_file

        weights = load_file(folder / "model" / "model.safetensors")
        save_file({name: torch.rand_like(values) for name, values in weights.items()}, file)
    return {
        "l2-init": {"name": "l2-init", "strength": 0.01},
        "l2-sp": {"name": "l2-sp"},
        "ewc": {"name": "ewc", "strength": 1, "file": str(file)},
        "mixout": {"name": "mixout"},
        "ema": {"name": "ema"},
    }


# -- an update -----------------------------------------------------------------------------------------------------


def updates(folder: Path, case: Case, rounds: int) -> dict[str, Any]:
    """Time of an update with each regularizer over that without."""
    tables = regularizers(folder)

    def contestants(number: int) -> Mapping[str, Callable[[], Timed]]:
        cases = {"without": case} | {
            name: Case(case.rows, case.updates, case.micro_batch, regularizers=(table,))
            for name, table in tables.items()
        }
        return {name: prepared_run(folder, one, f"{name}-{number}")[0] for name, one in cases.items()}

    runs = rotated(rounds, contestants)
    targets = {"l2-init": PULLED, "l2-sp": PULLED, "ewc": PULLED, "mixout": MIXED}
    found = {
        name: {
            clock: report.figure(
                [
                    fastest(one, index) / fastest(two, index)
                    for one, two in zip(runs[name], runs["without"], strict=True)
                ],
                at_most=targets.get(name),
            )
            for index, clock in enumerate(("clock", "processor"))
        }
        for name in tables
    }
    return {"tokens_per_update": runs["without"][0].tokens[0], "update": found}


def fastest(timed: Timed, clock: int) -> float:
    """Seconds of a run's fastest update, by the clock (0) or of the processor (1): other work disturbs it least."""
    return min(end[clock] - begin[clock] for begin, end in pairwise(timed.ends[LEFT_OUT - 1 :]))


# -- state ---------------------------------------------------------------------------------------------------------


def state(folder: Path, parameters: int) -> dict[str, Any]:
    """Bytes that each regularizer holds besides the optimizer's own, over the number of parameters."""
    tables, found = regularizers(folder), {}
    for name, expected in BYTES.items():
        case = Case("full", 3, 2, regularizers=(tables[name],))
        go, prepared = prepared_run(folder, case, f"state-{name}")
        go()
        trainer: Any = prepared.trainer
        held = [
            entry[key] for entry in trainer.optimizer.state.values() for key in ("anchor", "importance") if key in entry
        ]
        for one in prepared.update.regularizations:
            held += getattr(one.after_update, "mean", {}).values()
        size = sum(tensor.numel() * tensor.element_size() for tensor in held)
        found[name] = report.figure([size / parameters], at_most=expected)
    return {"bytes_per_parameter": found}


# -- a pull alone --------------------------------------------------------------------------------------------------


def pulls(rounds: int, side: int) -> dict[str, Any]:
    """Time of the gradient that autograd finds of a penalty, over that of the pull, on matrices of side × side."""
    import torch
    from torch import Tensor

    from fttool.training.pulls import anchored, set_importance

    class Still(torch.optim.Optimizer):
        def __init__(self, params: Any) -> None:
            super().__init__(params, {"lr": 0.0})

        def step(self, closure: Any = None) -> None:
            """Leave the weights as they are."""

    def weights() -> list[Tensor]:
        torch.manual_seed(0)
        made = [torch.randn(side, side, requires_grad=True) for _ in range(8)]
        for one in made:
            one.grad = torch.zeros_like(one)
        return made

    def pull(keys: dict[str, Any]) -> Callable[[], None]:
        params = weights()
        optimizer: Any = anchored(Still)([{"params": params, **keys}])
        if "importance" in keys:
            set_importance(optimizer, {p: torch.rand_like(p) for p in params})
        optimizer.step()
        with torch.no_grad():
            for p in params:
                p.add_(0.01)
        return optimizer.step

    def autograd(penalty: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[[], None]:
        rows = [(p, p.detach() - 0.01, torch.rand_like(p)) for p in weights()]

        def add() -> None:
            total = torch.zeros(())
            for p, start, importance in rows:
                total = total + penalty(p, start, importance)
            total.backward()

        return add

    kinds: dict[str, tuple[dict[str, Any], Callable[[Tensor, Tensor, Tensor], Tensor]]] = {
        "l2-init": ({"pull": 2 * 0.01}, lambda p, a, f: 0.01 * ((p - a) ** 2).sum()),
        "l2-sp": ({"pull": 0.1}, lambda p, a, f: 0.1 / 2 * ((p - a) ** 2).sum()),
        "ewc": ({"importance": True}, lambda p, a, f: 0.5 * (f * (p - a) ** 2).sum()),
    }
    found: dict[str, Any] = {}
    for name, (keys, penalty) in kinds.items():
        timed = {"pull": pull(keys), "autograd": autograd(penalty)}
        rows = [measured(timed, backwards=bool(number % 2)) for number in range(3 * rounds + 1)][1:]
        found[name] = {
            f"autograd_over_pull_{clock}": report.figure(
                [row["autograd"][index] / row["pull"][index] for row in rows], at_least=CHEAPER
            )
            for index, clock in enumerate(("clock", "processor"))
        }
        found[name]["milliseconds"] = {who: report.figure([1000 * row[who][0] for row in rows]) for who in timed}
    return {"pull": found}


def measured(timed: Mapping[str, Callable[[], None]], *, backwards: bool) -> dict[str, tuple[float, float]]:
    """Seconds of each on the clock and of the processor, in one order or the other."""
    found: dict[str, tuple[float, float]] = {}
    for name in reversed(list(timed)) if backwards else timed:
        began, busy = time.perf_counter(), time.process_time()
        timed[name]()
        found[name] = time.perf_counter() - began, time.process_time() - busy
    return found


if __name__ == "__main__":
    main()
