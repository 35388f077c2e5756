"""`fttool validate` lists all that is wrong in one go, and `fttool run` refuses it before torch is imported."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
from tomli_w import dumps

from fttool.api import Filter, FilterContext, PluginError, Problem, Recipe, RecipeError, RowFilter, Strategy, hookimpl
from fttool.cli import main
from fttool.plugins import Plugins
from fttool.recipe.reading import load
from fttool.rows.paths import refuse_unusable

GOOD = json.dumps({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}) + "\n"
BAD = json.dumps({"messages": [{"role": "user", "content": "Hi"}]}) + "\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Here, with good rows in `chats.jsonl` and bad ones in `bad.jsonl`."""
    monkeypatch.chdir(tmp_path)
    Path("chats.jsonl").write_text(GOOD * 2)
    Path("bad.jsonl").write_text(GOOD + BAD)
    return tmp_path


def recipe(**tables: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "recipe": 1,
        "model": {"source": "builtin:tiny-chat"},
        "data": {"train": [{"path": "chats.jsonl"}]},
    }
    return {**base, **tables}


def place(text: str, last: bool = False) -> str:
    """`line:column` of a text in the recipe, its first or last."""
    source = Path("r.toml").read_text()
    at = source.rindex(text) if last else source.index(text)
    return f"r.toml:{source.count(chr(10), 0, at) + 1}:{at - source.rfind(chr(10), 0, at)}"


def problems(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[dict[str, str]]]:
    """The exit code, and what is wrong."""
    capsys.readouterr()
    code = main(["validate", "r.toml", "--json", *words])
    return code, json.loads(capsys.readouterr().out)


EVERYTHING = """\
recipe = 1

[model]
source = "./tiny"
chat_template = "chat.jinja"
atention = "sdpa"

[[data.train]]
path = "chat.jsonl"

[[data.train]]
path = "chats.jsonl"
limmit = 3

[[data.train]]
path = "bad.jsonl"

[[data.retention]]
path = "table.parquet"

[[filters]]
name = "wordz"

[[regularizers]]
name = "l2-init"

[[regularizers]]
name = "ewc"
strength = 1
file = "importanze.safetensors"

[schedule]
name = "wsd"
warmup = -1
"""


def test_all_that_is_wrong_is_listed_in_one_go(capsys: pytest.CaptureFixture[str]) -> None:
    """Of the recipe, of the files that it names, and of the rows, whatever else is wrong; each at its own place."""
    Path("tinny").mkdir()
    Path("chat_2.jinja").touch()
    Path("importance.safetensors").touch()
    Path("table.parquet").write_bytes(b"PAR1" + bytes(20))
    Path("r.toml").write_text(EVERYTHING)
    code, found = problems(capsys)
    assert code == 3
    expected = {
        place("atention"): ("unknown key 'model.atention'", "'attention'"),
        place("limmit"): ("unknown key 'data.train.1.limmit'", "'limit'"),
        place('name = "wordz"'): ("unknown strategy 'wordz'", "'words'"),
        place("regularizers"): ("strength' is missing", ""),
        place("warmup"): ("schedule.warmup", ""),
        place("source"): ("' does not exist", "tinny'"),
        place("chat_template"): ("no such file", "chat_2.jinja"),
        place('path = "chat.jsonl"'): ("no such file", "chats.jsonl"),
        place('path = "table.parquet"'): ("not a whole Parquet file", "copy or download"),
        place("file ="): ("the importance file", "'importance.safetensors'"),
        "bad.jsonl:2": ("no assistant turn", "fix or delete"),
    }
    where = [one["where"] for one in found]
    assert sorted(where) == sorted(expected)
    for one in found:
        message, hint = expected[one["where"]]
        assert message in one["message"] and hint in one["hint"], one
    kinds = [where.index(key) for key in (place("warmup"), place("source"), "bad.jsonl:2")]
    assert kinds == sorted(kinds), "the recipe comes first, then what it names, then the rows"


def test_what_stands_further_down_in_a_list_keeps_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    """Entries that are wrong are taken out of lists; those after them are still located where they are."""
    wrong = [{"path": 3}, {"name": "a"}, {"path": "missing-1.jsonl"}, {"path": "x", "hub": 1}, {"path": "bad.jsonl"}]
    several = {"train": [*wrong, {"path": "missing-2.jsonl"}], "eval": [{"path": "missing-3.jsonl", "formt": "text"}]}
    Path("r.toml").write_text(dumps(recipe(data=several)))
    code, found = problems(capsys)
    assert code == 3
    for number in (1, 2, 3):
        (one,) = (one for one in found if f"missing-{number}.jsonl" in one["message"])
        line = Path("r.toml").read_text().splitlines()[int(one["where"].split(":")[1]) - 1]
        assert line.strip().startswith(("path", "{ path")) and f"missing-{number}.jsonl" in line
    assert [one["where"] for one in found if "assistant turn" in one["message"]] == ["bad.jsonl:2"]


RULED_OUT: Mapping[str, tuple[dict[str, Any], int]] = {
    "contradiction": (recipe(run={"epochs": 1, "max_steps": 2}), 3),
    "unmeasured best": (recipe(evaluation={"best": "perplexity"}), 3),
    "unknown tracker": (recipe(tracking={"to": ["wandbb"]}), 3),
    "importance file": (
        recipe(regularizers=[{"name": "ewc", "strength": 1, "previous": "none.safetensors", "file": "no.safetensors"}]),
        3,
    ),
    "rows": (recipe(data={"train": [{"path": "none.jsonl"}]}), 4),
    "general rows": (recipe(data={"train": [{"path": "chats.jsonl"}], "general": [{"path": "none/of/it"}]}), 4),
    "suffix": (recipe(data={"train": [{"path": "rows.xlsx"}]}), 4),
    "text": (recipe(data={"train": [{"path": "rows.doc"}]}), 4),
    "empty folder": (recipe(data={"train": [{"path": "empty"}]}), 4),
    "empty file": (recipe(data={"train": [{"path": "empty.jsonl"}]}), 4),
    "model": (recipe(model={"source": "./none"}), 5),
    "deep model": (recipe(model={"source": "runs/none/model"}), 5),
    "model in a folder": (recipe(model={"source": "empty/none"}), 5),
    "home": (recipe(model={"source": "~/no-such-model-here"}), 5),
    "GGUF": (recipe(model={"source": "none.gguf"}), 5),
    "folder without a model": (recipe(model={"source": "empty"}), 5),
    "configuration": (recipe(model={"source": "config:none.json"}), 5),
    "tokenizer": (recipe(model={"source": {"name": "config", "path": "config.json", "tokenizer": "none"}}), 5),
    "package": (recipe(model={"source": "package:no_such_package"}), 5),
    "template": (recipe(model={"source": "builtin:tiny-chat", "chat_template": "none.jinja"}), 5),
    "broken template": (recipe(model={"source": "builtin:tiny-chat", "chat_template": "broken.jinja"}), 5),
    "rows and model": (recipe(model={"source": "./none"}, data={"train": [{"path": "none.jsonl"}]}), 4),
}
"""A recipe that is ruled out by itself and by what it names, and the exit code."""


def lay_out() -> None:
    """What `RULED_OUT` names."""
    Path("empty").mkdir()
    Path("empty.jsonl").touch()
    Path("rows.xlsx").write_bytes(b"PK\x03\x04" + bytes(20))
    Path("rows.doc").write_text("a text\n")
    Path("broken.jinja").write_text("{% for %}")
    Path("config.json").write_text('{"model_type": "llama"}')
    for kind, (data, _) in RULED_OUT.items():
        Path(f"{kind}.toml").write_text(dumps(data))


PROBE = """
import contextlib, io, json, sys
from fttool.cli import main
found = {}
for words in json.loads(sys.argv[1]):
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = main(words)
    heavy = [name for name in ("torch", "transformers", "trl", "datasets") if name in sys.modules]
    found[" ".join(words)] = [code, said.getvalue(), heavy]
print(json.dumps(found))
"""


def asked(calls: list[list[str]]) -> dict[str, tuple[int, str, list[str]]]:
    """Of calls that follow each other in a process of their own: exit code, stderr, heavy libraries imported so far."""
    done = subprocess.run([sys.executable, "-c", PROBE, json.dumps(calls)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {key: tuple(value) for key, value in json.loads(done.stdout).items()}


def test_run_and_validate_refuse_alike_without_torch() -> None:
    """And the probe sees torch where a run does begin."""
    lay_out()
    Path("good.toml").write_text(dumps(recipe()))
    calls = [[*verb.split(), f"{kind}.toml"] for kind in RULED_OUT for verb in ("validate", "run", "run --dry-run")]
    valid = [["validate", "good.toml"], ["validate", "good.toml", "--advise"]]
    found = asked([*calls, *valid, ["run", "good.toml", "--dry-run"]])
    for kind, (_, code) in RULED_OUT.items():
        said = [found[f"{verb} {kind}.toml"] for verb in ("validate", "run", "run --dry-run")]
        assert [one[0] for one in said] == [code] * 3, (kind, said)
        assert said[0][1] == said[1][1] == said[2][1], kind
        assert re.match(rf"{kind}\.toml:\d+:\d+:\s|\S+\.jinja:1:\s", said[0][1]), said[0][1]
        assert [one[2] for one in said] == [[], [], []], kind
    assert [found[" ".join(words)][::2] for words in valid] == [(0, [])] * 2
    code, said, heavy = found["run good.toml --dry-run"]
    assert code == 0 and "torch" in heavy, said
    assert not Path("runs").exists()


def test_a_changed_recipe_and_a_run_that_exists_are_refused_without_torch(
    fttool_recipe: dict[str, Any], tmp_path: Path
) -> None:
    Path("r.toml").write_text(dumps({**fttool_recipe, "run": {**fttool_recipe["run"], "output": "runs"}}))
    assert main(["run", "r.toml", "-q", "--set", "run.max_steps=2"]) == 0
    changed = ["run", "r.toml", "--resume", "--set", "run.max_steps=2", "--set", "optimizer.lr=0.5"]
    other = ["run", "r.toml", "--resume", "--set", "run.name=other"]
    found = list(asked([changed, ["run", "r.toml"], other]).values())
    assert [one[0] for one in found] == [2, 2, 2] and [one[2] for one in found] == [[], [], []]
    for one, said in zip(found, ("optimizer.lr was", "never overwritten", "no run to resume"), strict=True):
        assert said in one[1]


def test_no_rows_looks_at_the_recipe_alone(capsys: pytest.CaptureFixture[str]) -> None:
    Path("r.toml").write_text(dumps(RULED_OUT["rows and model"][0]))
    assert problems(capsys, "--no-rows") == (0, [])


@pytest.mark.parametrize(
    "spoil",
    [lambda one: one.pop("model"), lambda one: one.pop("recipe"), lambda one: one.update(model="./none"), dict.clear],
    ids=["no model", "no version", "model is no table", "nothing"],
)
def test_what_a_recipe_cannot_be_without_hides_nothing_else(
    spoil: Callable[[dict[str, Any]], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    data = recipe()
    spoil(data)
    data["data"] = {"train": [{"path": "none.jsonl"}, {"path": "bad.jsonl"}]}
    Path("r.toml").write_text(dumps(data))
    code, found = problems(capsys)
    assert code == 3
    assert [one["where"] for one in found[-2:]] == [
        place("none.jsonl").rpartition(":")[0] + ":" + place("path").rpartition(":")[2],
        "bad.jsonl:2",
    ]


def test_a_plugin_that_is_missing_hides_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    data = recipe(schedule={"name": "nobody.bend"}, data={"train": [{"path": "none.jsonl"}]})
    Path("r.toml").write_text(dumps(data))
    code, found = problems(capsys)
    assert code == 4, "the lowest"
    assert any("'nobody'" in one["message"] for one in found) and any("none.jsonl" in one["message"] for one in found)


def test_a_hub_id_is_not_taken_for_a_path(capsys: pytest.CaptureFixture[str]) -> None:
    Path("owner").mkdir()
    for source in ("gpt2", "other/model", {"name": "pretrained", "path": "owner/model", "revision": "main"}):
        Path("r.toml").write_text(dumps(recipe(model={"source": source})))
        assert problems(capsys) == (0, []), source
    Path("r.toml").write_text(dumps(recipe(model={"source": "owner/model"})))
    code, (found,) = problems(capsys)
    assert code == 5 and "' does not exist" in found["message"] and 'revision = "main"' in found["hint"]


def test_metrics_that_nothing_measures_are_said_beside_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    data = recipe(evaluation={"metrics": ["perplexity"]}, data={"train": [{"path": "none.jsonl"}]})
    Path("r.toml").write_text(dumps(data))
    assert main(["validate", "r.toml"]) == 4
    assert "evaluation.metrics (perplexity) are not measured" in capsys.readouterr().out


class Listed(Filter):
    """Drops rows with a word of a list."""

    name: Literal["acme.listed"] = "acme.listed"
    words: str
    """The list, a file."""

    def check_files(self, recipe: Recipe, folder: Path) -> Iterable[Problem]:
        """Refuse a list that is not there, and trip over one that is a folder."""
        if (folder / self.words).is_dir():
            raise ZeroDivisionError
        if not (folder / self.words).is_file():
            yield Problem(f"there is no list '{self.words}'", hint="write one", key=("words",))

    def build(self, ctx: FilterContext) -> RowFilter:
        """All rows are kept."""
        return lambda examples: [None] * len(examples)


class Acme:
    """A plugin."""

    @hookimpl
    def fttool_strategies(self) -> list[type[Strategy]]:
        """The one strategy."""
        return [Listed]


def test_a_plugins_own_files_are_asked_for() -> None:
    """What it says is located at its option; one that raises is told by name."""
    Path("r.toml").write_text(dumps(recipe(filters=[{"name": "acme.listed", "words": "words.txt"}])))
    loaded = load(Path("r.toml"), plugins=Plugins.of(acme=Acme()))
    with pytest.raises(RecipeError) as refused:
        refuse_unusable(loaded)
    (problem,) = refused.value.problems
    assert problem.where == place("words =") and "words.txt" in problem.message
    Path("words.txt").touch()
    refuse_unusable(loaded)
    Path("words.txt").unlink()
    Path("words.txt").mkdir()
    with pytest.raises(PluginError, match=r"'acme\.listed', of the plugin 'acme'.*ZeroDivisionError"):
        refuse_unusable(loaded)
