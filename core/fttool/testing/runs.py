"""Run a recipe inside a test, over the installed plugins or over those the test gives."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from fttool.errors import ExitCode, FttoolError
from fttool.plugins import Plugins


def plugins(**modules: object) -> Plugins:
    """fttool's own strategies and the given plugins, by entry-point name; nothing else that is installed.

    `plugins(acme=fttool_acme)` needs no installed distribution, so a plugin can be tested as it is written.
    """
    return Plugins.of(**modules)


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """How a run ended, and what it wrote."""

    exit_code: ExitCode
    run_dir: Path
    """The run directory; it is missing where the run was refused before it began."""
    error: FttoolError | None
    """What was wrong, where the exit code is not 0."""

    @property
    def summary(self) -> dict[str, Any]:
        """`summary.json`."""
        return json.loads((self.run_dir / "summary.json").read_text(encoding="utf-8"))

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The lines of `metrics.jsonl`: those with `loss` are of training, those with `eval_…` of evaluations."""
        return self._lines("metrics.jsonl")

    @property
    def events(self) -> list[dict[str, Any]]:
        """The lines of `events.jsonl`."""
        return self._lines("events.jsonl")

    def _lines(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.run_dir / name).read_text(encoding="utf-8").splitlines()]


def run_recipe(
    recipe: str | Mapping[str, Any],
    folder: Path,
    *,
    plugins: Plugins | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
) -> RunResult:
    """Run a recipe, given as TOML or as a dictionary, in this process.

    The recipe is written to `folder/recipe.toml`, where its relative paths start, and its run directory is made in
    `folder/runs` whatever it says. `overrides` are what `--set` takes. What fttool reports to a user comes back as
    `exit_code` and `error`; anything else that is raised is a fault and comes through.
    """
    from fttool.recipe.reading import load
    from fttool.recipe.toml import format_value
    from fttool.runs.run import run
    from fttool.watch.screen import choose

    file, output = folder / "recipe.toml", folder / "runs"
    file.write_text(recipe if isinstance(recipe, str) else tomli_w.dumps(recipe), encoding="utf-8")
    name = "recipe"
    try:
        loaded = load(file, [*overrides, f"run.output={format_value(str(output))}"], plugins)
        name = loaded.name
        code, error = run(loaded, choose(quiet=True, as_json=False), resume=resume).code, None
    except FttoolError as wrong:
        code, error = wrong.exit_code, wrong
    return RunResult(exit_code=code, run_dir=output / name, error=error)
