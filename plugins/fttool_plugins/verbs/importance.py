"""Find how much each weight matters to what a model knows, for `ewc`.

It computes what the recipe's `ewc` would compute before the first update, on the rows of `[[data.general]]`, and writes
a file that any recipe over the same model can name: `file = "…"`.
"""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from fttool.api import ExitCode, RecipeError, UsageError, show
from fttool.verbs import add_recipe, load_recipe, prepare, verb_parser
from fttool_plugins.regularizer.ewc import EWC, FILE

EXAMPLES = """\
examples:
  fttool importance my.toml                          writes importance.safetensors, or the file that my.toml names
  fttool importance my.toml -o wiki.safetensors
  fttool importance my.toml --set 'regularizers=[{name="ewc",strength=1,examples=1000}]'

next: fttool run my.toml
"""


def main(words: Sequence[str]) -> int:
    """Write the file."""
    parser = verb_parser("importance", __doc__, EXAMPLES)
    add_recipe(parser)
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: what the recipe names, or " + FILE)
    parser.add_argument("-q", "--quiet", action="store_true", help="show the result only")
    options = parser.parse_args(words)
    loaded = load_recipe(options)
    ewc = next((regularizer for regularizer in loaded.recipe.regularizers if isinstance(regularizer, EWC)), None)
    if ewc is None:
        raise UsageError(
            f"'{options.recipe}' has no ewc, which says on what and how importance is found",
            hint="add --set 'regularizers=[{name=\"ewc\",strength=1}]'",
        )
    if not loaded.recipe.data.general:
        hint = 'add [[data.general]] with path = "rows.jsonl"'
        raise RecipeError("importance is computed on rows that represent what the model knows", hint=hint)
    named = loaded.folder / Path(ewc.file).expanduser() if ewc.file else Path(FILE)
    output: Path = options.output or named
    if output.exists():
        raise UsageError(f"'{output}' exists; it is never overwritten", hint="choose another file: -o FILE")
    if not output.parent.is_dir():
        raise UsageError(
            f"the folder '{output.parent}' does not exist", hint="make it, or choose another file: -o FILE"
        )
    alone = ewc.model_copy(update={"file": None})
    recipe = loaded.recipe.model_copy(update={"regularizers": (alone,)})
    with _folder_beside(output) as folder:
        prepared = prepare(replace(loaded, recipe=recipe), folder, quiet=options.quiet)
        (regularization,) = prepared.update.regularizations
        (pull,) = regularization.pulls
        assert pull.importance is not None
        importance = pull.importance()
        (folder / FILE).rename(output)
    show(f"{output}: the importance of {sum(tensor.numel() for tensor in importance.values()):,} weights")
    return ExitCode.OK


@contextmanager
def _folder_beside(output: Path) -> Generator[Path]:
    """A folder that is gone afterwards, where SIGTERM ends it all too; `UsageError` where there can be none."""
    try:
        beside = tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.")
    except OSError as fault:
        message = f"cannot write '{output}': {fault.strerror}"
        raise UsageError(message, hint="choose another file: -o FILE") from fault
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(ExitCode.PREEMPTED))
    try:
        with beside as folder:
            yield Path(folder)
    finally:
        signal.signal(signal.SIGTERM, before)
