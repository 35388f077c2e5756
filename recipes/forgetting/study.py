"""What a model gains and what it forgets under each method of fine-tuning: makes all runs, and draws the result.

    python recipes/forgetting/study.py chat             needs pip install '.[lora,plot]'
    python recipes/forgetting/study.py spam             needs pip install '.[minilm,lora,plot]' and the corpus
    python recipes/forgetting/study.py chat --quick     two updates a method on a few rows, to see that it works

Strengths come from a handful of runs with seed 0, which is none of the study's: strong, but with nine tenths of the
gain of `full` or more. They are not tuned beyond that.

Each run is `fttool run` on the base recipe with the overrides below. A run that is finished is not made again. The
table, the picture and the figures of all runs are written beside the runs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import retrieval

HERE = Path(__file__).parent

METHODS: dict[str, tuple[str, ...]] = {
    "full": (),
    "full, low rate": ("optimizer.lr={low_rate}",),
    "head-only": ("freezing=head-only", "optimizer.lr={head_rate}"),
    "top-layers": ('freezing={{name="top-layers",n={top}}}',),
    "gradual": ('freezing={{name="gradual",every={every}}}',),
    "discriminative": ('layer_rates={{name="discriminative",decay={decay}}}',),
    "l2-init": ('regularizers=[{{name="l2-init",strength={l2_init},decoupled=true}}]',),
    "l2-sp": ('regularizers=[{{name="l2-sp",alpha={l2_sp},beta={l2_sp}}}]',),
    "ewc": ('regularizers=[{{name="ewc",strength={ewc}}}]',),
    "mixout": ('regularizers=[{{name="mixout",p={mixout}}}]',),
    "wise-ft": ('regularizers=[{{name="wise-ft",alpha=0.5}}]',),
    "lora": ('freezing={{name="lora",rank=8,alpha=16}}', "optimizer.lr={lora_rate}"),
    "replay": ('mixing={{name="replay",share=0.25,by="tokens"}}', "batching.pool=1"),
}
"""Method → overrides of the base recipe; what stands in braces is the experiment's own."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Of one run: a good method gains much and forgets little."""

    method: str
    seed: int
    gain: float
    forgotten: float
    tokens_per_second: float
    peak_memory_mb: float


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A base recipe and how its runs are judged."""

    settings: Mapping[str, float | str]
    measure: Callable[[Path], tuple[float, float]]
    """Run directory → what was gained, what was forgotten."""
    gain: str
    forgotten: str
    left_out: Sequence[str] = ()
    """Methods that need rows which this experiment does not have."""

    def methods(self) -> list[str]:
        return [method for method in METHODS if method not in self.left_out]


def chat(run: Path) -> tuple[float, float]:
    """Nats per token: the fall of the loss on new rows, its mean rise on the two sets of old ones."""
    summary = json.loads((run / "summary.json").read_text())
    before, after = summary["eval"]["before"], summary["eval"]["after"]
    rises = [delta["loss"] for delta in summary["retention"]["delta"].values()]
    return before["loss"] - after["loss"], statistics.mean(rises)


def spam(run: Path) -> tuple[float, float]:
    """Shares of rows: the accuracy on mails, which begins at chance, and the backbone's fall at finding answers."""
    summary = json.loads((run / "summary.json").read_text())
    found = retrieval.accuracy(run / "model")
    return summary["eval"]["after"]["accuracy"], retrieval.untouched() - found


EXPERIMENTS = {
    "chat": Experiment(
        settings={
            "low_rate": 1e-4,
            "head_rate": 1e-3,
            "every": '"epoch"',
            "top": 2,
            "decay": 0.6,
            "l2_init": 20.0,
            "l2_sp": 4e-3,
            "ewc": 3.0,
            "mixout": 0.9,
            "lora_rate": 2e-3,
        },
        measure=chat,
        gain="loss on new rows falls by",
        forgotten="loss on old rows rises by",
    ),
    "spam": Experiment(
        settings={
            "low_rate": 1e-5,
            "head_rate": 1e-2,
            "every": 0.1,
            "top": 3,
            "decay": 0.7,
            "l2_init": 100.0,
            "l2_sp": 4e-3,
            "mixout": 0.9,
            "lora_rate": 2e-3,
        },
        measure=spam,
        gain="accuracy on mails",
        forgotten="accuracy at finding answers falls by",
        left_out=("ewc", "replay"),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--seeds", type=int, default=3, help="runs of each method (default: 3)")
    parser.add_argument("--methods", nargs="+", help="only these")
    parser.add_argument("--output", type=Path, default=Path("runs/forgetting"), help="where the runs go")
    parser.add_argument("--quick", action="store_true", help="two updates on few rows: the figures mean nothing")
    words = parser.parse_args()

    experiment, folder = EXPERIMENTS[words.experiment], words.output / words.experiment
    seeds = range(1, 2 if words.quick else words.seeds + 1)
    outcomes: list[Outcome] = []
    for method in words.methods or experiment.methods():
        for seed in seeds:
            run = make_run(words.experiment, method, seed, folder, words.quick)
            outcomes.append(judged(experiment, method, seed, run))
    (folder / "results.json").write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1) + "\n")
    (folder / "results.md").write_text(table(experiment, outcomes))
    draw(experiment, outcomes, folder / "results.png")
    print(table(experiment, outcomes))


def make_run(experiment: str, method: str, seed: int, folder: Path, quick: bool) -> Path:
    """The run directory of one method and seed; made unless it is finished."""
    name = f"{method.replace(', ', '-').replace(' ', '-')}-{seed}"
    if (folder / name / "model").exists():
        return folder / name
    words = [*overrides(experiment, method), f"run.name={name}", f"run.output={folder}", f"run.seed={seed}"]
    words += ["run.max_steps=2", "schedule.warmup=0", "data.train.0.limit=48"] if quick else []
    command = [sys.executable, "-m", "fttool", "run", "-q", str(HERE / f"{experiment}.toml")]
    for override in words:
        command += ["--set", override]
    print(f"{method}, seed {seed}", file=sys.stderr, flush=True)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder / name


def overrides(experiment: str, method: str) -> list[str]:
    """What a method changes in the experiment's base recipe, as `--set` takes it."""
    return [one.format(**EXPERIMENTS[experiment].settings) for one in METHODS[method]]


def judged(experiment: Experiment, method: str, seed: int, run: Path) -> Outcome:
    summary: dict[str, Any] = json.loads((run / "summary.json").read_text())
    gain, forgotten = experiment.measure(run)
    return Outcome(
        method=method,
        seed=seed,
        gain=gain,
        forgotten=forgotten,
        tokens_per_second=summary["tokens_per_second"],
        peak_memory_mb=summary["peak_memory_bytes"] / 1e6,
    )


def by_method(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    return {
        method: [one for one in outcomes if one.method == method]
        for method in dict.fromkeys(o.method for o in outcomes)
    }


def table(experiment: Experiment, outcomes: Sequence[Outcome]) -> str:
    """Markdown: mean ± standard deviation over the seeds; of one seed its value."""
    lines = [
        f"| method | {experiment.gain} | {experiment.forgotten} | tokens/s | peak memory |",
        "|---|---|---|---|---|",
    ]
    for method, runs in by_method(outcomes).items():
        cells = [
            spread([one.gain for one in runs]),
            spread([one.forgotten for one in runs]),
            f"{statistics.median(one.tokens_per_second for one in runs):,.0f}",
            f"{statistics.median(one.peak_memory_mb for one in runs):,.0f} MB",
        ]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def spread(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


def draw(experiment: Experiment, outcomes: Sequence[Outcome], file: Path) -> None:
    """Means of the seeds as named points, with the spread of both numbers as bars."""
    from matplotlib.figure import Figure

    from fttool_plugins.verbs.compare.plotting import fill

    points = [
        (method, statistics.mean(one.gain for one in runs), statistics.mean(one.forgotten for one in runs))
        for method, runs in by_method(outcomes).items()
    ]
    figure: Any = Figure(figsize=(8, 6), dpi=150, layout="constrained")
    fill(figure, points, "")
    axes = figure.axes[0]
    for runs in by_method(outcomes).values():
        gains, losses = [one.gain for one in runs], [one.forgotten for one in runs]
        axes.plot([min(gains), max(gains)], [statistics.mean(losses)] * 2, color="0.6", linewidth=1)
        axes.plot([statistics.mean(gains)] * 2, [min(losses), max(losses)], color="0.6", linewidth=1)
    axes.set_xlabel(f"{experiment.gain} →")
    axes.set_ylabel(f"{experiment.forgotten} →")
    axes.set_title("Gained and forgotten: mean and range over the seeds (lower right is best)", fontsize=11)
    figure.savefig(file)


if __name__ == "__main__":
    main()
