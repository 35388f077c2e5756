"""What verbs of plugins build on, beside `fttool.api`: arguments, rows, runs to come and finished runs.

Read `planning.py`, then `finished.py` and `evaluating.py`; `surveying.py` looks at rows, `branching.py` begins a run
with another run's checkpoint, `revisiting.py` goes back to the updates of one that is over.
The names below are promised as those of `fttool.api` are; each is imported once it is asked for, so a verb's help is
quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fttool.cli.parser import verb_parser
    from fttool.cli.recipe_arguments import add_overrides, add_recipe, load_recipe
    from fttool.disk import user_folder
    from fttool.errors import counted, gist
    from fttool.listing import Listed
    from fttool.plain import children, is_table
    from fttool.recipe.loaded import Loaded
    from fttool.recipe.toml import format_value
    from fttool.rows.files.file import read_lines
    from fttool.rows.files.remote import fetched_files, remove_fetched
    from fttool.rows.files.source import read_rows
    from fttool.rows.workers import mapped
    from fttool.rundir.saved import model_head, saved_model
    from fttool.rundir.writer_lock import in_use, writer_lock
    from fttool.runs.row_cache import kept_rows, kept_rows_folder, remove_kept_rows
    from fttool.runs.start import checkpoint_names, checkpoint_steps, stable_steps
    from fttool.show.page import Html, html_bar, html_element, html_page, html_steps, html_table, html_text
    from fttool.verbs.branching import branch
    from fttool.verbs.evaluating import (
        Evaluation,
        Measured,
        evaluate,
        fitting_format,
        measuring,
        metrics_for,
        model_classes,
        recipe_of,
    )
    from fttool.verbs.finished import final_model, initial_weights, load_run, measure
    from fttool.verbs.formats import formats_tried, installed_formats
    from fttool.verbs.kept import prepared_rows, raw_files
    from fttool.verbs.outlining import Outline, outline
    from fttool.verbs.planning import plan_for_gpus, prepare, with_overrides
    from fttool.verbs.revisiting import Revisited, revisit
    from fttool.verbs.surveying import (
        Fit,
        Judge,
        Surveyed,
        fits,
        judging,
        progress,
        raw_dataset,
        ready_filters,
        row_encoder,
        row_tokenizer,
        survey,
    )
    from fttool.verbs.trying import short_run
    from fttool.watch.aligned import aligned

_HOME = {
    "Evaluation": "fttool.verbs.evaluating",
    "Fit": "fttool.verbs.surveying",
    "Html": "fttool.show.page",
    "Judge": "fttool.verbs.surveying",
    "Listed": "fttool.listing",
    "Loaded": "fttool.recipe.loaded",
    "Measured": "fttool.verbs.evaluating",
    "Outline": "fttool.verbs.outlining",
    "Revisited": "fttool.verbs.revisiting",
    "Surveyed": "fttool.verbs.surveying",
    "add_overrides": "fttool.cli.recipe_arguments",
    "add_recipe": "fttool.cli.recipe_arguments",
    "aligned": "fttool.watch.aligned",
    "branch": "fttool.verbs.branching",
    "checkpoint_names": "fttool.runs.start",
    "checkpoint_steps": "fttool.runs.start",
    "children": "fttool.plain",
    "counted": "fttool.errors",
    "evaluate": "fttool.verbs.evaluating",
    "fetched_files": "fttool.rows.files.remote",
    "final_model": "fttool.verbs.finished",
    "fits": "fttool.verbs.surveying",
    "fitting_format": "fttool.verbs.evaluating",
    "format_value": "fttool.recipe.toml",
    "formats_tried": "fttool.verbs.formats",
    "gist": "fttool.errors",
    "html_bar": "fttool.show.page",
    "html_element": "fttool.show.page",
    "html_page": "fttool.show.page",
    "html_steps": "fttool.show.page",
    "html_table": "fttool.show.page",
    "html_text": "fttool.show.page",
    "in_use": "fttool.rundir.writer_lock",
    "initial_weights": "fttool.verbs.finished",
    "installed_formats": "fttool.verbs.formats",
    "is_table": "fttool.plain",
    "judging": "fttool.verbs.surveying",
    "load_recipe": "fttool.cli.recipe_arguments",
    "load_run": "fttool.verbs.finished",
    "mapped": "fttool.rows.workers",
    "measure": "fttool.verbs.finished",
    "measuring": "fttool.verbs.evaluating",
    "metrics_for": "fttool.verbs.evaluating",
    "model_classes": "fttool.verbs.evaluating",
    "model_head": "fttool.rundir.saved",
    "outline": "fttool.verbs.outlining",
    "plan_for_gpus": "fttool.verbs.planning",
    "prepare": "fttool.verbs.planning",
    "kept_rows": "fttool.runs.row_cache",
    "kept_rows_folder": "fttool.runs.row_cache",
    "prepared_rows": "fttool.verbs.kept",
    "progress": "fttool.verbs.surveying",
    "raw_dataset": "fttool.verbs.surveying",
    "raw_files": "fttool.verbs.kept",
    "read_lines": "fttool.rows.files.file",
    "read_rows": "fttool.rows.files.source",
    "ready_filters": "fttool.verbs.surveying",
    "recipe_of": "fttool.verbs.evaluating",
    "remove_fetched": "fttool.rows.files.remote",
    "remove_kept_rows": "fttool.runs.row_cache",
    "revisit": "fttool.verbs.revisiting",
    "row_encoder": "fttool.verbs.surveying",
    "row_tokenizer": "fttool.verbs.surveying",
    "saved_model": "fttool.rundir.saved",
    "short_run": "fttool.verbs.trying",
    "stable_steps": "fttool.runs.start",
    "survey": "fttool.verbs.surveying",
    "user_folder": "fttool.disk",
    "verb_parser": "fttool.cli.parser",
    "with_overrides": "fttool.verbs.planning",
    "writer_lock": "fttool.rundir.writer_lock",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


__all__ = [
    "Evaluation",
    "Fit",
    "Html",
    "Judge",
    "Listed",
    "Loaded",
    "Measured",
    "Outline",
    "Revisited",
    "Surveyed",
    "add_overrides",
    "add_recipe",
    "aligned",
    "branch",
    "checkpoint_names",
    "checkpoint_steps",
    "children",
    "counted",
    "evaluate",
    "fetched_files",
    "final_model",
    "fits",
    "fitting_format",
    "format_value",
    "formats_tried",
    "gist",
    "html_bar",
    "html_element",
    "html_page",
    "html_steps",
    "html_table",
    "html_text",
    "in_use",
    "initial_weights",
    "installed_formats",
    "is_table",
    "judging",
    "kept_rows",
    "kept_rows_folder",
    "load_recipe",
    "load_run",
    "mapped",
    "measure",
    "measuring",
    "metrics_for",
    "model_classes",
    "model_head",
    "outline",
    "plan_for_gpus",
    "prepare",
    "prepared_rows",
    "progress",
    "raw_dataset",
    "raw_files",
    "read_lines",
    "read_rows",
    "ready_filters",
    "recipe_of",
    "remove_fetched",
    "remove_kept_rows",
    "revisit",
    "row_encoder",
    "row_tokenizer",
    "saved_model",
    "short_run",
    "stable_steps",
    "survey",
    "user_folder",
    "verb_parser",
    "with_overrides",
    "writer_lock",
]
