"""fttool from Python: what `fttool run`, `generate` and their like do, with recipes as files, dictionaries or objects.

    from fttool import load, run

    ended = run({"recipe": 1, "model": {"source": "builtin:tiny-chat"}, "data": {"train": [{"path": "rows.jsonl"}]}})
    ended.summary["eval"]["after"]["loss"]

What the command line prints as an error and an exit code is raised here as an `FttoolError` with both. torch is
imported once something is prepared or asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeAlias, overload

from fttool.contracts.recipe import Recipe
from fttool.errors import ExitCode, UsageError
from fttool.plugins import Plugins
from fttool.recipe.loaded import Loaded
from fttool.recipe.reading import load as _load
from fttool.recipe.toml import format_value

if TYPE_CHECKING:
    from fttool.runs.stages.loop import Prepared

AnyRecipe: TypeAlias = "str | Path | Mapping[str, Any] | Recipe | Loaded"
"""A recipe's file, its content as a dictionary or as a typed object, or one that `load` has read."""
Changes: TypeAlias = Mapping[str, Any]
"""Values by dotted key, as `--set` takes them: `{"optimizer.lr": 1e-4}`."""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A run that has ended: finished, or stopped by a signal."""

    folder: Path
    """The run directory."""
    model: Path
    """The folder of the final model; it is there where the run has finished and saved."""
    summary: Mapping[str, Any]
    """As `summary.json` has it: `status`, `eval`, `retention`, `samples` …"""
    code: ExitCode
    """0, or that of the signal that has stopped the run."""


def load(recipe: AnyRecipe, changes: Changes | None = None, *, plugins: Plugins | None = None) -> Loaded:
    """Read and validate a recipe, with `changes` in it.

    A file's relative paths start in its folder, those of a dictionary or an object in the current one. Without
    `run.name` a recipe that is not a file is called `recipe`.

    Raises:
        RecipeError, PluginError: with all problems; of a dictionary they name the key, of a file line and column.
    """
    overrides = [f"{key}={format_value(value)}" for key, value in (changes or {}).items()]
    if isinstance(recipe, Loaded):
        known = plugins or recipe.plugins
        again = [*recipe.overrides, *overrides]
        return _load(recipe.path, again, known, recipe.data) if changes else recipe
    if isinstance(recipe, str | Path):
        return _load(Path(recipe), overrides, plugins)
    data = recipe.model_dump(mode="json", exclude_none=True) if isinstance(recipe, Recipe) else dict(recipe)
    return replace(_load(Path("recipe.toml"), overrides, plugins, data), data=data)


def run(
    recipe: AnyRecipe, changes: Changes | None = None, *, resume: bool = False, save: bool = True, quiet: bool = False
) -> Finished:
    """Fine-tune as the recipe says, in this process; progress is shown as the command line shows it, unless `quiet`.

    With `resume` a run goes on from its newest good checkpoint; without `save` it leaves neither checkpoints nor model.

    Raises:
        FttoolError: the one that `fttool run` prints; its `exit_code` says of which kind it is. A `UsageError` where
            the run directory exists, or the recipe is for several processes: those `fttool run` starts.
    """
    from fttool.runs.refusing import refuse_early

    loaded = load(recipe, changes)
    refuse_early(loaded, resume=resume)

    from fttool.show.running import run_shown
    from fttool.watch.screen import choose

    ended = run_shown(loaded, choose(quiet=quiet, as_json=False), resume=resume, saves=save)
    return Finished(folder=ended.record.path, model=ended.record.model, summary=ended.summary, code=ended.code)


def prepare(recipe: AnyRecipe, changes: Changes | None = None, *, quiet: bool = True) -> Prepared:
    """A run up to its first update: rows in tokens, the model, what trains at which rate, and the trainer.

    Nothing is trained, and nothing is left on disk.
    """
    from fttool.rows.paths import refuse_unusable
    from fttool.verbs.planning import prepare as prepare_loaded

    loaded = load(recipe, changes)
    refuse_unusable(loaded)
    with TemporaryDirectory() as folder:
        return prepare_loaded(loaded, Path(folder), quiet=quiet)


@overload
def generate(
    model: str | Path | Finished,
    questions: str,
    *,
    system: str | None = None,
    max_tokens: int = 256,
    temperature: float = 0.0,
    seed: int = 0,
) -> str: ...
@overload
def generate(
    model: str | Path | Finished,
    questions: list[str] | tuple[str, ...],
    *,
    system: str | None = None,
    max_tokens: int = 256,
    temperature: float = 0.0,
    seed: int = 0,
) -> list[str]: ...
def generate(
    model: str | Path | Finished,
    questions: str | list[str] | tuple[str, ...],
    *,
    system: str | None = None,
    max_tokens: int = 256,
    temperature: float = 0.0,
    seed: int = 0,
) -> str | list[str]:
    """Ask a run, a model's folder, or any model source such as `builtin:tiny-chat`; an answer for each question.

    `max_tokens` is the longest answer; `temperature` 0 picks the likeliest token.

    Raises:
        UsageError: for no question, an option out of its range, or a model that does not write text.
        ModelError: for a model that cannot be loaded.
    """
    from fttool.cli.generate import answers, configure
    from fttool.cli.parser import verb_parser

    asked = [questions] if isinstance(questions, str) else list(questions)
    if not asked or not all(question.strip() for question in asked):
        raise UsageError("a question is empty")
    place = model.folder if isinstance(model, Finished) else Path(model)
    parser = verb_parser("generate", None, "")
    configure(parser)
    options = parser.parse_args(["MODEL"])
    chosen = {"run": place, "system": system, "max_tokens": max_tokens, "temperature": temperature, "seed": seed}
    vars(options).update(chosen)
    found = list(answers(options, asked))
    return found[0] if isinstance(questions, str) else found
