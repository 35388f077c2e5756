"""Write the reference pages from the code: `python docs/reference.py`; a test holds the committed pages to it.

`docs/recipe.md` lists every table and key of a recipe, `docs/strategies/<family>.md` every built-in strategy,
`docs/core.md` every file of the core, `docs/events.md` every event of a run, and `docs/api.md` every name that is
promised to Python code.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from api_page import api_page

from fttool import events
from fttool.cli.plugin_page import example, kind
from fttool.cli.schema import recipe_schema
from fttool.contracts import FAMILIES
from fttool.contracts.recipe import Recipe
from fttool.contracts.strategy import Strategy
from fttool.described import attribute_docstrings
from fttool.plugins import Plugins
from fttool.recipe.toml import format_value

DOCS = Path(__file__).parent
MADE = "<!-- made from the code by docs/reference.py -->"

SPINE = (  # what a reader must know to follow a recipe to a model, in the order in which a run meets it
    "errors hookspecs plugins contracts/recipe recipe/overrides recipe/loaded recipe/reading "
    "runs/run runs/opening runs/preparing runs/stages/setup runs/stages/rows rows/data rows/datasets rows/encoding "
    "rows/tokens rows/rows rows/templates runs/stages/model runs/stages/batches rows/loader runs/stages/update "
    "training/update training/groups runs/stages/plan runs/stages/loop training/job training/progress watch/watch "
    "training/trainer training/evaluation runs/finishing"
)
CORE = {  # folder → its files in reading order
    "": "scripting api described hookspecs events plugins listing yielded world machine errors visible wrapping plain "
    "textfile disk permissions streams",
    "contracts": "strategy layers rows batches model update sharding task advice recipe",
    "recipe": "toml tomlscan overrides loaded closed explaining rules secrets faults reading salvaging",
    "rows": "data datasets raw slicing hub format_detection paths first_look filtering encoding lengths tokens gone "
    "spooled rows templates limits chat prompts loader workers kept",
    "rows/files": "source file tree remote",
    "rows/checks": "noted columns verdicts marks bad classes trained_classes calls abilities agreement nothing_left",
    "rundir": "record checkpoints lines writer_lock code commit signing saved",
    "watch": "watch screen aligned observers tracking trackers",
    "training": "job update progress groups rates pulls regularizing additions randomness initial_weights terms passes "
    "halving evaluation rounding answering proof trainer scaling finite guard saving weights stored formats configs "
    "shards held_bytes memory",
    "features": "backbone observed cache",
    "proof": "proving probe assumptions properties",
    "runs": "run refusing opening resume resuming start preparing forecasting advising finishing summary card stopping "
    "rehearsing disk_space row_cache",
    "runs/stages": "setup rows model batches update plan loop answers",
    "show": "running closing dry_run page",
    "launch": "joining launching nodes worker verdict",
    "verbs": "planning outlining finished evaluating surveying trying branching revisiting formats kept",
}

TABLES = {
    "run": "RunTable",
    "model": "ModelTable",
    "data": "DataTable",
    "data.train / data.eval / data.general / data.retention": "RowsTable",
    "checkpoints": "CheckpointsTable",
    "evaluation": "EvaluationTable",
    "evaluation.generate": "GenerateTable",
    "tracking": "TrackingTable",
    "plugins": "PluginsTable",
    "advice": "AdviceTable",
}


def pages() -> dict[str, str]:
    """Every generated page by its path below `docs/`."""
    plugins = Plugins.discover()
    made = {
        "recipe.md": recipe_page(),
        "core.md": core_page(),
        "events.md": events_page(),
        "api.md": api_page(MADE),
    }
    for family in FAMILIES:
        made[f"strategies/{family}.md"] = family_page(family, plugins.family(family))
    return made


def core_page() -> str:
    """The core's files in reading order, each with the first sentence of its docstring."""
    core = DOCS.parent / "core" / "fttool"
    lines = [
        MADE,
        "",
        "# The core, file by file",
        "",
        "[design.md](design.md) explains the design. To follow a recipe to a model, read these files in this order;",
        "they call everything else, whose names and docstrings are enough:",
        "",
        *(f"{number}. [`{name}.py`](../core/fttool/{name}.py)" for number, name in enumerate(SPINE.split(), start=1)),
        "",
        "These are 2,600 lines of code at most, by a test. Left out is what does its work beside the road from a",
        "recipe to a model, and is read by whoever asks that question: how the recipe's type is made of the",
        "strategies that it names (`recipe/closed.py`), how a run goes on after it was stopped (`runs/resuming.py`),",
        "how models and checkpoints come to disk (`training/saving.py`), and what the run directory holds",
        "(`rundir/`).",
        "",
        "Below is every file, by folder. Imports only lead downwards: `cli` and `verbs`, then `launch` and `show`,",
        "`runs`, `features` and `proof`, `training`, `watch`, `rundir`, `rows`, `recipe`, `contracts`.",
        "",
    ]
    for folder, names in CORE.items():
        if folder:
            lines += [f"## `{folder}/`", "", summary(core / folder / "__init__.py"), ""]
        lines += ["| file | |", "|---|---|"]
        lines += [f"| `{name}.py` | {summary(core / folder / f'{name}.py')} |" for name in names.split()]
        lines.append("")
    lines.append("`cli/` has one file per verb; `testing/` is what plugin authors test with.")
    return "\n".join(lines) + "\n"


def summary(file: Path) -> str:
    """The first paragraph of a module's docstring, on one line."""
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return " ".join(docstring.partition("\n\n")[0].split())


def recipe_page() -> str:
    """The recipe reference."""
    definitions = recipe_schema(builtin_only=True)["$defs"]
    lines = [MADE, "", "# The recipe", "", inspect.cleandoc(Recipe.__doc__ or ""), ""]
    lines += [
        "The first line is `recipe = 1`, the version of the format. Tables that you leave out have their defaults, so",
        'five lines are enough for a recipe. For a strategy, a string is short for `{name = "…"}`, and a table without',
        "`name` sets options of the family's default strategy. Where a share or a number of updates may be given, a",
        "value below 1 is a share (rounded up to whole updates) and a value from 1 on a number.",
        "",
        "`--set key.path=value` overrides a key for one run; `fttool schema` prints all of this as JSON Schema.",
        "",
    ]
    for name, definition in TABLES.items():
        table = definitions[definition]
        lines += [f"## `[{name}]`", "", table["description"], "", "| key | type | default | |", "|---|---|---|---|"]
        lines += rows(table, definitions)
        lines.append("")
    lines += ["## Strategies", "", "| table | family | default |", "|---|---|---|"]
    for name, place in ((name, family.place) for name, family in FAMILIES.items()):
        table = f"[[{place.table}]]" if place.many and "." not in place.table else f"[{place.table}]"
        default = f"`{place.default}`" if place.default else ""
        lines.append(f"| `{table}` | [{name}](strategies/{name}.md) | {default} |")
    return "\n".join(lines) + "\n"


def rows(table: Mapping[str, Any], definitions: Mapping[str, Any]) -> Iterator[str]:
    """A Markdown row per key."""
    required = set(table.get("required", ()))
    for key, option in table["properties"].items():
        strategy = "format" if key == "format" else "model" if key == "source" else "metric" if key == "metrics" else ""
        if strategy:
            shown = f"[{strategy}](strategies/{strategy}.md)"
        elif "items" in option and "$ref" in option["items"]:
            shown = "list of tables"
        else:
            shown = kind(option, definitions).replace("|", "\\|")
        default = option.get("default")
        given = "required" if key in required else "" if default is None or strategy else f"`{format_value(default)}`"
        yield f"| `{key}` | {shown} | {given} | {one_line(option)} |"


def events_page() -> str:
    """Every event with its fields."""
    lines = [
        MADE,
        "",
        "# What happens in a run",
        "",
        "`fttool run --json` prints each event as one JSON object per line on standard output, and nothing else.",
        "`events.jsonl` in the run directory has those of the first table, and the hook `fttool_event` is called with",
        "them. Each has `time` (UTC, ISO 8601), `event`, its own fields, and `text` where there is something to say to",
        "people.",
        "",
    ]
    classes = [one for one in vars(events).values() if isinstance(one, type) and issubclass(one, events.Event)]
    reported = [one for one in classes if issubclass(one, events.Reported) and one is not events.Reported]
    recorded = [one for one in classes if not issubclass(one, events.Reported) and one is not events.Event]
    lines += event_table(recorded)
    lines += ["", "With `--json` alone; the values of `logged` stand beside its kind, as in `metrics.jsonl`:", ""]
    return "\n".join([*lines, *event_table(reported), ""])


def event_table(kinds: Sequence[type[events.Event]]) -> list[str]:
    """A row for each kind of event, with its fields."""
    lines = ["| event | when | fields |", "|---|---|---|"]
    for event in kinds:
        texts = attribute_docstrings(event)
        names = [field.name for field in fields(event) if field.name != "text"]
        shown = [f"`{name}`: {' '.join(texts[name].split())}" if name in texts else f"`{name}`" for name in names]
        lines.append(f"| `{event.kind()}` | {inspect.cleandoc(event.__doc__ or '')} | {'<br>'.join(shown)} |")
    return lines


def one_line(option: Mapping[str, Any]) -> str:
    """A description in a table cell."""
    return " ".join(option.get("description", "").split()).replace("|", "\\|")


def family_page(name: str, strategies: tuple[type[Strategy], ...]) -> str:
    """All built-in strategies of a family."""
    family = FAMILIES[name]
    lines = [MADE, "", f"# {name}", "", inspect.cleandoc(family.__doc__ or ""), ""]
    for strategy in strategies:
        schema = strategy.model_json_schema()
        options = {key: option for key, option in schema["properties"].items() if key != "name"}
        default = " (default)" if strategy.id() == family.place.default else ""
        lines += [f"## `{strategy.id()}`{default}", "", inspect.cleandoc(strategy.__doc__ or ""), ""]
        background = (inspect.getmodule(strategy).__doc__ or "").partition("\n\n")[2].strip()
        lines += [background, ""] if background else []
        lines += ["```toml", example(strategy), "```", ""]
        brought = [f"`{key} = {format_value(value)}`" for key, value in getattr(strategy, "defaults", {}).items()]
        if brought:
            lines += [f"Where the recipe is silent, it brings {', '.join(brought)}.", ""]
        if options:
            lines += ["| option | type | default | |", "|---|---|---|---|"]
            lines += rows({**schema, "properties": options}, schema.get("$defs", {}))
            lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    for path, text in pages().items():
        (DOCS / path).parent.mkdir(exist_ok=True)
        (DOCS / path).write_text(text, encoding="utf-8")
