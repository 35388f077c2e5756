"""The command line: help that teaches, start-up without torch, and each verb's output."""

import contextlib
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import tomli
from tomli_w import dumps

from fttool.cli import VERBS, main
from fttool.cli.not_verbs import DONE_BY
from fttool.cli.plugin_verbs import COMMANDS_GROUP
from fttool.cli.schema import recipe_schema
from fttool.errors import FttoolError
from fttool.recipe.reading import load
from fttool.testing import run_recipe, tiny_tokenizer

from ...probes import HEAVY, imported_by
from ...rows import write_rows

ROOT = Path(__file__).parents[3]
OURS = [point.name for point in entry_points(group=COMMANDS_GROUP) if point.value.startswith("fttool_plugins.")]


# -- help --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_help_shows_every_verb_and_what_to_type(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert all(re.search(rf"\b{verb}\b", shown) for verb in (*VERBS, *OURS))
    assert "fttool recipes copy quickstart" in shown and "fttool init my.toml --data" in shown
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert words or len(shown.splitlines()) <= 24, "the first screen is one screen"


@pytest.mark.parametrize("verb", VERBS)
def test_each_verbs_help_teaches_by_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "examples:" in shown and f"fttool {verb}" in shown


@pytest.mark.parametrize("verb", (*VERBS, *OURS))
def test_each_verbs_help_leads_on(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("next: ")]
    named = re.findall(r"fttool ([a-z]+)", line)
    assert named and set(named) <= {*VERBS, *OURS} - {verb if verb != "recipes" else ""}


@pytest.mark.parametrize("verb", ("", *VERBS, *OURS))
def test_help_breaks_between_words(
    verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: dict[int, str] = {}
    for columns in (200, 60):
        monkeypatch.setenv("COLUMNS", str(columns))
        with contextlib.suppress(SystemExit):
            main([verb, "--help"] if verb else ["--help"])
        shown[columns] = capsys.readouterr().out
    long = [line for line in shown[60].splitlines() if len(line) > 60]
    assert [line for line in long if not line.startswith("  fttool ")] == [], "a command is kept whole, to be copied"
    assert shown[60].split() == shown[200].split()


@pytest.mark.parametrize("word", ["grid", "export", "push", "serve", "chat", "train", "help", "evaluat", "lora"])
def test_a_verb_that_is_not_there_is_answered_with_what_does_the_job(
    word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word]) == 2
    said = capsys.readouterr().err
    assert f"unknown command '{word}'" in said and len(said.splitlines()) == 2


def test_what_is_proposed_instead_of_a_verb_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    """Each `fttool …` in it names a verb, and options that its help knows."""
    for advice in set(DONE_BY.values()):
        for words in re.findall(r"fttool ([a-z-]+[^`;,]*)", advice):
            verb, *rest = words.split()
            if verb.startswith("-") or verb == "VERB":
                continue
            assert verb in (*VERBS, *OURS), advice
            with pytest.raises(SystemExit):
                main([*(["plugins", "list"] if verb == "plugins" else [verb]), "--help"])
            shown = capsys.readouterr().out
            assert all(word in shown for word in rest if word.startswith("--")), advice


def test_a_misspelt_option_gets_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run", "my.toml", "--resme"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "unrecognized arguments: --resme" in said and "did you mean '--resume'?" in said
    with pytest.raises(SystemExit):
        main(["predict", "x", "--zzzz"])
    assert "did you mean" not in capsys.readouterr().err


def test_an_error_breaks_between_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.toml"
    path.write_text("recipe = 1\n[schedule]\nname = 'cosin'\n")
    shown: dict[str, str] = {}
    for columns in ("200", "60"):
        monkeypatch.setenv("COLUMNS", columns)
        assert main(["validate", str(path)]) == 3
        shown[columns] = capsys.readouterr().err
    assert shown["60"].split() == shown["200"].split()
    assert [line for line in shown["60"].splitlines() if len(line) > 60 and " " in line.strip()] == []


def test_a_log_has_a_line_for_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert main(["export"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_a_misspelt_verb_is_answered_with_the_right_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["valdate"]) == 2
    assert "did you mean 'validate'?" in capsys.readouterr().err


def test_python_m_fttool_is_fttool(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["fttool", "valdate"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "core" / "fttool" / "__main__.py"), run_name="__main__")
    assert ended.value.code == 2 and "did you mean 'validate'?" in capsys.readouterr().err


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("fttool ")


def test_start_up_imports_nothing_heavy() -> None:
    """One after the other, in one process."""
    quickstart = str(ROOT / "recipes" / "quickstart.toml")
    verbs = [
        ["--help"],
        ["run", "--help"],
        ["validate", quickstart],
        ["plugins"],
        ["plugins", "show", "wsd"],
        ["schema"],
    ]
    code = f"""
import sys
from fttool.cli import main
for words in {verbs}:
    try:
        main(words)
    except SystemExit:
        pass
    assert not set({HEAVY}) & set(sys.modules), words
"""
    assert imported_by(code) == set()


def test_validate_imports_no_filters_events_or_process_library_that_nothing_asks_for(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [{"prompt": "a", "completion": "b"}])
    recipe = tmp_path / "recipe.toml"
    given = {"recipe": 1, "model": {"source": "builtin:tiny-chat"}, "data": {"train": [{"path": "rows.jsonl"}]}}
    recipe.write_text(dumps(given))
    rooms = ("fttool_plugins.filter", "fttool_plugins.regularizer")
    unneeded = (*rooms, "fttool.events", "fttool.rundir", "psutil")
    code = "from fttool.cli import main\nmain(['validate', {words}])"
    assert imported_by(code.format(words=f"{str(recipe)!r}"), *unneeded) == set()
    assert imported_by(code.format(words=f"{str(recipe)!r}, '--set', 'filters=[\"words\"]'"), *unneeded) == {rooms[0]}


def test_only_the_strategies_that_a_recipe_names_get_a_validator(tmp_path: Path) -> None:
    """Their number is what `validate` takes its time for, more than anything else it does."""
    write_rows(tmp_path / "rows.jsonl", [{"messages": []}])
    recipe = tmp_path / "recipe.toml"
    given = {"recipe": 1, "model": {"source": "builtin:tiny-chat"}, "data": {"train": [{"path": "rows.jsonl"}]}}
    recipe.write_text(dumps(given))
    code = f"""
from fttool.recipe.reading import load
recipe = load(__import__("pathlib").Path({str(recipe)!r})).recipe
named = {{type(strategy) for _, strategy in recipe.strategies()}}
def below(kind):
    return {{kind}}.union(*map(below, kind.__subclasses__()))
from fttool.api import Strategy
made = {{kind for kind in below(Strategy) if kind.__pydantic_complete__}}
assert made == named, made ^ named
"""
    assert imported_by(code) == set()


# -- validate and schema -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.toml")), ids=lambda path: path.name)
def test_every_recipe_is_valid_and_points_to_the_schema(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its rows too, where they come with it and are not the user's own."""
    tables = [table for _, table in load(path).recipe.data.datasets()]
    if all((path.parent / str(table.path)).exists() for table in tables):
        assert main(["validate", str(path)]) == 0
        first, *rows = capsys.readouterr().out.splitlines()
        assert first == f"{path}: valid"
        assert rows and not [line for line in rows if "are bad" in line or "ignore names" in line]
    else:
        assert main(["validate", str(path)]) == 4
        capsys.readouterr()
    assert main(["validate", str(path), "--no-rows"]) == 0
    assert capsys.readouterr().out == f"{path}: valid\n"
    assert path.read_text().startswith("#:schema ./recipe.schema.json\n")


def test_the_committed_schema_is_that_of_the_built_in_strategies() -> None:
    committed = json.loads((ROOT / "recipes" / "recipe.schema.json").read_text())
    assert committed == recipe_schema(builtin_only=True), "fttool schema --builtin > recipes/recipe.schema.json"


def test_validate_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "r.toml"
    path.write_text("recipe = 1\n[run]\nsed = 1\n")
    assert main(["validate", str(path), "--json"]) == 3
    problems = json.loads(capsys.readouterr().out)
    assert {problem["where"] for problem in problems} >= {f"{path}:3:1"}
    assert set(problems[0]) == {"message", "where", "hint"}


GOOD = {"recipe": 1, "model": {"source": "builtin:tiny-chat"}, "data": {"train": [{"path": "x.jsonl"}]}}


def changed(**tables: Any) -> dict[str, Any]:
    return {**GOOD, **tables}


VERDICTS: list[tuple[dict[str, Any], bool]] = [
    (GOOD, True),
    (changed(schedule="wsd"), True),
    (changed(schedule={"name": "wsd", "shape": "cosine"}), True),
    (changed(model={"source": {"name": "config", "path": "c.json", "tokenizer": "t"}}), True),
    (changed(model={"source": "owner/name"}), True),
    (changed(filters=["words", {"name": "exact-duplicates"}]), True),
    (changed(evaluation={"metrics": ["loss", "perplexity"]}), True),
    (changed(regularizers=[{"name": "l2-init", "strength": 0.1}]), True),
    (changed(recipe=2), False),
    ({key: value for key, value in GOOD.items() if key != "recipe"}, False),
    (changed(schedule={"shape": "cosine"}), False),
    (changed(schedule={"name": "cosine", "shape": "cosine"}), False),
    (changed(schedule="cosin"), False),
    (changed(schedule={"name": "wsd", "shape": "cubic"}), False),
    (changed(optimizer={"name": "adamw", "lr": -1}), False),
    (changed(optimizer={"name": "adamw", "lr": "high"}), False),
    (changed(optimizer={}), True),
    (changed(model={"source": {"path": "x"}}), True),
    (changed(filters=[{"min": 2}]), False),
    (changed(model={"source": "nowhere:x"}), False),
    (changed(model={}), False),
    (changed(data={"train": []}), False),
    (changed(run={"micro_batch": 0}), False),
    (changed(run={"name": "../x"}), False),
    (changed(unknown=1), False),
    (changed(filters="words"), False),
]


@pytest.fixture(scope="module")
def schema() -> jsonschema.Draft202012Validator:
    made = recipe_schema()
    jsonschema.Draft202012Validator.check_schema(made)
    return jsonschema.Draft202012Validator(made)


@pytest.mark.parametrize(("data", "good"), VERDICTS)
def test_schema_and_pydantic_agree(
    schema: jsonschema.Draft202012Validator, tmp_path: Path, data: dict[str, Any], good: bool
) -> None:
    path = tmp_path / "r.toml"
    path.write_text(dumps(data))
    try:
        load(path)
        accepted = True
    except FttoolError:
        accepted = False
    assert (accepted, schema.is_valid(data)) == (good, good)


def test_every_key_of_the_schema_is_described() -> None:
    made = recipe_schema()
    for name, table in made["$defs"].items():
        assert table.get("description"), name
        for key, value in table.get("properties", {}).items():
            assert value.get("description") or key == "name", f"{name}.{key}"


# -- init, preview, generate -------------------------------------------------------------------------------------


def test_init_writes_a_recipe_that_validates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "my.toml"
    assert main(["init", str(path), "--data", 'odd "name".jsonl', "--model", "some/model"]) == 0
    assert main(["validate", str(path), "--no-rows"]) == 0
    assert tomli.loads(path.read_text())["data"]["train"][0]["path"] == 'odd "name".jsonl'
    before = path.read_text()
    assert main(["init", str(path)]) == 2
    assert path.read_text() == before and "never overwritten" in capsys.readouterr().err


def test_init_writes_a_recipe_for_a_classifier(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    assert main(["init", str(path), "--task", "classification", "--data", "reviews.csv"]) == 0
    recipe = load(path).recipe
    assert (recipe.task.id(), recipe.masking.id(), recipe.data.train[0].path) == (
        "classification",
        "label",
        "reviews.csv",
    )


CHAT, SHARED = ("sft", "messages", "assistant"), ("sft", "sharegpt", "assistant")
ROWS = {
    "qa.jsonl": ('{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}', *CHAT),
    "al.jsonl": ('{"instruction": "a", "output": "b"}', "sft", "alpaca", "assistant"),
    "sg.jsonl": ('{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}', *SHARED),
    "pc.json": ('[{"prompt": "a", "completion": "b"}]', "sft", "prompt-completion", "completion"),
    "text.jsonl": ('{"text": "a b"}', "sft", "text", "all"),
    "rev.csv": ("text,label\na b,x\nc d,y", "classification", "labelled", "label"),
    "words.jsonl": ('{"tokens": ["a", "b"], "tags": ["O", "B-X"]}', "token-classification", "tagged", "words"),
}


@pytest.mark.parametrize("name", ROWS)
def test_init_writes_a_recipe_for_the_rows_it_is_given(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text, *expected = ROWS[name]
    Path("rows").mkdir()
    Path("rows", name).write_text(text + "\n")
    Path("recipes").mkdir()
    assert main(["init", "recipes/my.toml", "--data", f"rows/{name}"]) == 0
    recipe = load(Path("recipes/my.toml")).recipe
    assert [recipe.task.id(), recipe.data.train[0].format.id(), recipe.masking.id()] == expected
    assert recipe.data.train[0].path == f"../rows/{name}"
    assert Path("recipes/my.toml").read_text().startswith("#:schema ./recipe.schema.json\n")
    assert main(["validate", "recipes/my.toml"]) == 0
    assert "fttool schema > recipe.schema.json" in capsys.readouterr().out


def test_init_says_where_no_format_reads_the_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "odd.jsonl").write_text('{"left": "a", "right": "b"}\n')
    assert main(["init", str(tmp_path / "my.toml"), "--data", str(tmp_path / "odd.jsonl")]) == 4
    assert "'left', 'right'" in capsys.readouterr().err and not (tmp_path / "my.toml").exists()


def test_init_names_a_template_for_a_base_model(tmp_path: Path, fttool_tiny_model: Path) -> None:
    folder = Path(shutil.copytree(fttool_tiny_model, tmp_path / "base"))
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    for name, model in (("base", folder), ("chat", fttool_tiny_model)):
        assert main(["init", str(tmp_path / f"{name}.toml"), "--model", str(model)]) == 0
    assert load(tmp_path / "base.toml").recipe.model.chat_template == "chatml"
    assert load(tmp_path / "chat.toml").recipe.model.chat_template is None


def test_every_commented_option_of_init_is_an_option(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    main(["init", str(path)])
    uncommented = [
        line.removeprefix("# ") if line.startswith(("# chat", "# grad", "# [[", "# path", "# name", "# str")) else line
        for line in path.read_text().splitlines()
    ]
    path.write_text("\n".join(uncommented))
    recipe = load(path).recipe
    assert recipe.model.gradient_checkpointing and recipe.regularizers and recipe.model.chat_template == "chatml"
    assert recipe.data.retention


@pytest.fixture
def recipe_file(tmp_path: Path, fttool_recipe: dict[str, Any]) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(dumps(fttool_recipe))
    return path


def test_preview_tells_the_class(
    tmp_path: Path, fttool_recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.csv").write_text("text,label\nWin a prize!,spam\nSee you.,ham\n")
    data = {"train": [{"path": "rows.csv"}]}
    (tmp_path / "recipe.toml").write_text(dumps({**fttool_recipe, "task": "classification", "data": data}))
    assert main(["preview", str(tmp_path / "recipe.toml")]) == 0
    shown = capsys.readouterr().out
    assert "rows.csv:2: 12 tokens, spam\nWin a prize!\n" in shown and "rows.csv:3: 8 tokens, ham" in shown
    assert main(["preview", str(tmp_path / "recipe.toml"), "--rows", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["classes"] == ["spam"]


def test_preview_marks_what_is_learned(recipe_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["preview", str(recipe_file), "--rows", "1"]) == 0
    shown = capsys.readouterr().out
    assert "assistant\n[After 0 comes 1.<|im_end|>]" in shown
    assert "[What" not in shown


def test_preview_as_json(recipe_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["preview", str(recipe_file), "--rows", "2", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 2
    for row in rows:
        assert set(row) == {"row", "input_ids", "labels", "text"}
        assert len(row["input_ids"]) == len(row["labels"])
        assert all(label in (-100, token) for label, token in zip(row["labels"], row["input_ids"], strict=True))


@pytest.mark.parametrize("rows", ["0", "-1"])
def test_preview_of_no_rows_is_refused(recipe_file: Path, rows: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["preview", str(recipe_file), "--rows", rows]) == 2
    assert "--rows must be at least 1" in capsys.readouterr().err


def test_preview_of_general_and_retention_rows(
    recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["preview", str(recipe_file), "--table", "retention"]) == 2
    assert "no [[data.retention]]" in capsys.readouterr().err
    for name in ("books", "songs", "plays"):
        turns = [{"role": "user", "content": name}, {"role": "assistant", "content": "Yes."}]
        (tmp_path / f"{name}.jsonl").write_text((json.dumps({"messages": turns}) + "\n") * 3)
    with recipe_file.open("a") as file:
        for table, name in (("general", "plays"), ("retention", "books"), ("retention", "songs")):
            file.write(f"\n[[data.{table}]]\npath = {json.dumps(str(tmp_path / name) + '.jsonl')}\n")
    assert main(["preview", str(recipe_file), "--rows", "2", "--table", "retention", "--json"]) == 0
    shown = [json.loads(line)["row"] for line in capsys.readouterr().out.splitlines()]
    assert [Path(row).name for row in shown] == [f"{n}.jsonl:{line}" for n in ("books", "songs") for line in (1, 2)]


def test_preview_says_what_is_to_be_known_of_datasets_and_rows(
    tmp_path: Path, fttool_recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the datasets all of it, of the rows that of those shown; what is read by programs stays clean."""
    named = [{"role": "user", "content": "Hi?", "name": "Ada"}, {"role": "assistant", "content": "Hello."}]
    plain = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Me."}]
    rows = [{"messages": turns, "tag": 1} for turns in (named, plain, named)]
    write_rows(tmp_path / "rows.jsonl", rows)
    file = tmp_path / "recipe.toml"
    file.write_text(dumps({**fttool_recipe, "data": {"train": [{"path": "rows.jsonl", "format": "messages"}]}}))
    for shown, remarked in (("1", "1 row"), ("2", "1 row"), ("3", "2 rows")):
        assert main(["preview", str(file), "--rows", shown, "--json"]) == 0
        said = capsys.readouterr()
        assert [json.loads(line)["row"] for line in said.out.splitlines()]
        assert said.err.splitlines() == [
            "note: rows: columns that are not read: tag (3)",
            f"note: shown here: {remarked} with a name of the user's turns, which the chat template leaves out",
        ]


def test_preview_shows_one_row_and_what_it_has_lost(recipe_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["preview", str(recipe_file)]
    assert main([*words, "--rows", "3", "--json"]) == 0
    third = json.loads(capsys.readouterr().out.splitlines()[2])
    place = third["row"].rpartition("/")[2]
    for which in ("3", place, third["row"]):
        assert main([*words, "--row", which, "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == third
    tokens = len(third["input_ids"])
    assert main([*words, "--row", place, "--set", f"batching.max_length={tokens - 1}"]) == 0
    assert f"{place}: {tokens - 1} tokens, " in (shown := capsys.readouterr().out) and ", cut: 1 token lost" in shown
    assert main([*words, "--row", place, "--set", "batching.too_long=drop", "--set", "batching.max_length=16"]) == 4
    filters = 'filters=[{name="words",min=99,max=100}]'
    assert main([*words, "--row", "10000"]) == 2
    assert "there is no row 10000 among those that are kept" in capsys.readouterr().err
    assert main([*words, "--row", "0"]) == 2
    assert main([*words, "--row", place, "--set", filters]) == 4
    capsys.readouterr()
    file = place.partition(":")[0]
    codes = [main([*words, "--row", f"{file}:{line}", "--set", "data.eval_share=0.5"]) for line in range(1, 7)]
    said = capsys.readouterr().err
    assert set(codes) == {0, 2} and said.count("is measured on, and not learned") == codes.count(2)


def test_preview_says_why_a_row_is_not_there(recipe_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = recipe_file.parent / "twice.jsonl"
    talk = [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Hello."}]
    rows.write_text(f"{json.dumps({'messages': talk})}\n" * 2)
    changes = ["--set", f'data.train=[{{path="{rows}"}}]', "--set", "data.eval_share=0"]
    changes += ["--set", 'filters=["exact-duplicates"]']
    assert main(["preview", str(recipe_file), "--row", "twice.jsonl:1", *changes]) == 0
    capsys.readouterr()
    assert main(["preview", str(recipe_file), "--row", "twice.jsonl:2", *changes]) == 2
    assert "twice.jsonl:2 is dropped: same row as an earlier row [exact-duplicates]" in capsys.readouterr().err


def test_preview_as_a_page(recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = recipe_file.parent / "hostile.jsonl"
    talk = [{"role": "user", "content": "<script>alert(1)</script>"}, {"role": "assistant", "content": "<b>No</b>"}]
    rows.write_text(json.dumps({"messages": talk}) + "\n")
    page = tmp_path / "rows.html"
    data = f'data.train=[{{path="{rows}"}}]'
    assert main(["preview", str(recipe_file), "--html", str(page), "--set", data, "--set", "data.eval_share=0"]) == 0
    text = page.read_text()
    assert "<script" not in text and "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert 'underline">&lt;b&gt;No&lt;/b&gt;' in text and "hostile.jsonl:1: " in text
    assert main(["preview", str(recipe_file), "--html", str(tmp_path / "no" / "rows.html")]) == 2


def test_preview_in_colour_decodes_to_the_same_text(recipe_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    from fttool.cli import preview

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    assert main(["preview", str(recipe_file), "--rows", "1"]) == 0
    assert f"{preview.LEARNED}After 0 comes 1." in terminal.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Terminal()
    monkeypatch.setattr(sys, "stdout", plain)
    assert main(["preview", str(recipe_file), "--rows", "1"]) == 0
    assert "\x1b" not in plain.getvalue()


def test_generate_answers_from_a_run(
    tmp_path: Path, fttool_recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_recipe(fttool_recipe, tmp_path)
    assert main(["generate", str(run.run_dir), "What comes after 3?", "--max-tokens", "5"]) == 0
    first = capsys.readouterr().out
    assert main(["generate", str(run.run_dir), "What comes after 3?", "--max-tokens", "5"]) == 0
    assert capsys.readouterr().out == first
    assert main(["generate", str(tmp_path), "?"]) == 2
    assert main(["generate", str(run.run_dir), "?", "--max-tokens", "0"]) == 2


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["?", "--temperature", "nan"], "--temperature must be a number"),
        (["?", "--temperature", "inf"], "--temperature must be a number"),
        ([""], "the question is empty"),
        ([" \n"], "the question is empty"),
        (["why " * 2000], "the model has positions for 1024"),
    ],
)
def test_generate_refuses_what_has_no_answer(
    fttool_tiny_model: Path, words: list[str], what: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", str(fttool_tiny_model), *words]) == 2
    out, err = capfd.readouterr()
    assert out == "" and what in err and len(err.splitlines()) <= 2


def test_generate_stays_within_the_models_positions(fttool_tiny_model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tokenizer = tiny_tokenizer()
    turn = [{"role": "user", "content": "why " * 190}]
    asked = len(tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_dict=False))
    assert 500 < asked < 1024
    assert main(["generate", str(fttool_tiny_model), "why " * 190, "--max-tokens", "2000"]) == 0
    assert capfd.readouterr().err == f"the model has positions for {1024 - asked} tokens of the answer\n"


def test_generate_runs_a_models_own_code_only_when_told(
    fttool_tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = Path(shutil.copytree(fttool_tiny_model, tmp_path / "own"))
    config = json.loads((folder / "config.json").read_text())
    own = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "own", "auto_map": own}))
    (folder / "own.py").write_text(
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
        "class OwnModel(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    )
    words = ["generate", str(folder), "?", "--max-tokens", "3"]
    assert main(words) == 5
    assert "--trust-remote-code" in capsys.readouterr().err
    assert main([*words, "--trust-remote-code"]) == 0


def test_dry_run_shows_everything_and_writes_nothing(recipe_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = recipe_file.parent / "elsewhere"
    assert main(["run", str(recipe_file), "--dry-run", "--set", f"run.output={output}"]) == 0
    shown = capsys.readouterr().out
    for part in ("# the recipe, with every option", "# rows", "# parameters", "# schedule", "frozen"):
        assert part in shown
    assert not output.exists()


@pytest.mark.parametrize("words", [["--help"], ["schema"]])
def test_a_reader_who_has_gone_is_no_error(words: list[str]) -> None:
    """As in `fttool --help | head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run([sys.executable, "-m", "fttool", *words], stdout=writing, stderr=subprocess.PIPE)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")
