"""What is wrong with a recipe, or with where its run is to go, is said at its line and column; nothing is written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from .conftest import Shell

SECRET = "hf_" + "abcdefghij" * 3

TEXT = """\
recipe = 1

[run]
max_steps = 20

[model]
source = "builtin:tiny-chat"

[[data.train]]
path = "rows.jsonl"
format = "messages"

[optimizer]
name = "adamw"
lr = 2e-5

[schedule]
name = "wsd"
warmup = 0.1
"""


# -- one mistake ---------------------------------------------------------------------------------------------------

# what is replaced · by what · where it is reported · what is said
MISTAKES: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "unknown key": ("warmup =", "warmpu =", "warmpu", ("unknown key 'schedule.warmpu'", "did you mean 'warmup'?")),
    "unknown table": ("[optimizer]", "[optimiser]", "optimiser", ("did you mean 'optimizer'?",)),
    "unknown strategy": ('"wsd"', '"wds"', 'name = "wds"', ("unknown strategy 'wds'", "did you mean 'wsd'?")),
    "strategy like no other": (
        '"wsd"',
        '"zigzag"',
        'name = "zigzag"',
        ("unknown strategy 'zigzag'", "known: constant, cosine, ", "wsd"),
    ),
    "unknown scheme": (
        '"builtin:tiny-chat"',
        '"buildin:tiny-chat"',
        "source",
        ("unknown strategy 'buildin'", "did you mean 'builtin'?"),
    ),
    "unknown format": ('format = "messages"', 'format = "mesages"', 'format = "mesages"', ("mean 'messages'?",)),
    "option of another strategy": (
        'name = "wsd"',
        'name = "cosine"\ndecay = 0.1',
        "decay",
        ("unknown key 'schedule.decay'", "that is an option of 'wsd'", "known: min_lr, name, warmup"),
    ),
    "syntax": ("lr = 2e-5", "lr = ", "lr = \n", ("this is not TOML", "invalid value")),
    "open string": ('"adamw"', '"adamw', '"adamw\n', ("this is not TOML",)),
    "colon": ("lr = 2e-5", "lr: 2e-5", ": 2e-5", ("TOML sets a key with '=', not with ':'",)),
    "duplicate key": ("warmup = 0.1", "warmup = 0.1\nwarmup = 0.2", "warmup = 0.2", ("'schedule.warmup' is defined",)),
    "duplicate table": ("[schedule]", "[run]\nseed = 1\n[schedule]", "run]\nseed", ("first defined at line 3",)),
    "a string for a number": ("lr = 2e-5", 'lr = "2e-5x"', "lr", ("optimizer.lr", "valid number", '"2e-5x"')),
    "a number for a string": ('"rows.jsonl"', "7", "path", ("data.train.0.path", "valid string")),
    "a number for a table": (
        "[run]\nmax_steps = 20",
        "run = 3",
        "run = 3",
        ("'run' must be a table", "write [run] with its keys"),
    ),
    "a table for a list": (
        "[[data.train]]",
        "[data.train]",
        "train]",
        ("'data.train' must be a list", "[[data.train]]"),
    ),
    "text for a number": ("max_steps = 20", 'max_steps = "20"', "max_steps", ("must be a number, got", "write 20")),
    "true for a number": ("max_steps = 20", "max_steps = true", "max_steps", ("must be a number, got true", "write 1")),
    "a number for true": (
        "[model]",
        "[model]\ntrust_remote_code = 1",
        "trust",
        ("must be true or false", "write true"),
    ),
    "negative lr": ("lr = 2e-5", "lr = -2e-5", "lr", ("greater than 0", "got -2e-05")),
    "absurd lr": ("lr = 2e-5", "lr = 20.0", "lr", ("less than 10", "got 20.0")),
    "lr nan": ("lr = 2e-5", "lr = nan", "lr", ("optimizer.lr", "got nan")),
    "lr infinite": ("lr = 2e-5", "lr = inf", "lr", ("optimizer.lr", "got inf")),
    "batch 0": ("max_steps = 20", "max_steps = 20\nmicro_batch = 0", "micro_batch", ("greater than 0", "got 0")),
    "max_length 0": ("[optimizer]", '[batching]\nname = "padded"\nmax_length = 0\n[optimizer]', "max_length", ("2",)),
    "seed too large": ("max_steps = 20", "max_steps = 20\nseed = 4294967296", "seed", ("4294967296",)),
    "no steps": ("max_steps = 20", "max_steps = 0", "max_steps", ("greater than 0",)),
    "warmup longer than the run": (
        "warmup = 0.1",
        "warmup = 21",
        "warmup",
        ("warmup is 21 steps, and run.max_steps is 20", "a value below 1 is a share"),
    ),
    "shares over 1": (
        "warmup = 0.1",
        "warmup = 0.6\ndecay = 0.5",
        "decay",
        ("warmup 0.6 and decay 0.5", "shorten one"),
    ),
    "steps that are not whole": (
        "warmup = 0.1",
        "warmup = 1.5",
        "warmup",
        ("schedule.warmup: input should be a share below 1, or a whole number of steps, got 1.5", "climb from rate 0"),
    ),
    "a stage that is not whole": (
        "[optimizer]",
        '[freezing]\nname = "gradual"\nevery = 2.5\n[optimizer]',
        "every",
        ("freezing.every: input should be 'epoch', or a share below 1, or a whole number of steps, got 2.5",),
    ),
    "a decay of one update": (
        "warmup = 0.1",
        "warmup = 0.1\ndecay = 1",
        "decay",
        ("1 update lowers no rate", "2 or more"),
    ),
    "a stage as long as the run": (
        "[optimizer]",
        '[freezing]\nname = "gradual"\nevery = 20\n[optimizer]',
        "every",
        ("a stage lasts 20 updates, and run.max_steps is 20", "set every = 0.1"),
    ),
    "lisa that draws once": (
        "[optimizer]",
        '[freezing]\nname = "lisa"\nevery = 20\n[optimizer]',
        "every",
        ("lisa samples layers every 20 updates, and run.max_steps is 20: it samples once", "set every = 2"),
    ),
    "everything frozen": (
        "[optimizer]",
        '[freezing]\nname = "patterns"\nfreeze = ["*.bias", "*"]\n[optimizer]',
        '"*"',
        ("freezing.freeze has '*', which is every parameter", "leave freeze out"),
    ),
    "cycles twice": (
        '"wsd"',
        '"cosine-restarts"\nfirst = 5\ncycles = 4',
        "cycles",
        ("both schedule.cycles and schedule.first", "keep one"),
    ),
    "both ends twice": (
        '"wsd"',
        '"slanted-triangular"\nratio = 32\nmin_lr = 1e-6',
        "ratio",
        ("both schedule.ratio and schedule.min_lr", "keep one"),
    ),
    "muon without a matrix": (
        '[optimizer]\nname = "adamw"',
        '[freezing]\nname = "head-only"\n[optimizer]\nname = "muon"',
        'name = "muon"',
        ("muon is for the matrices of layers, and freezing 'head-only' trains none", 'set optimizer = "adamw"'),
    ),
    "evaluation without rows": (
        "[optimizer]",
        "[evaluation]\nevery = 5\n[optimizer]",
        "every",
        ("evaluation.every is set, but there are no evaluation rows", "data.eval_share"),
    ),
    "fp16 weights": (
        "[optimizer]",
        '[precision]\nname = "fp16"\nweights = "float16"\n[optimizer]',
        "weights",
        ("unknown key 'precision.weights'", "that is an option of 'bf16'"),
    ),
    "secret value": ("lr = 2e-5", f'lr = "{SECRET}"', "lr", ("looks like a secret", "set it in the environment")),
    "secret in a comment": (
        "[optimizer]",
        f"# was {SECRET}\n[optimizer]",
        SECRET,
        ("this line holds what looks like",),
    ),
    "password in a comment": (
        "[optimizer]",
        '# hub_password = "hunter2hunter2"\n[optimizer]',
        "password",
        ("this line holds what looks like a secret", "set it in the environment"),
    ),
    "credentials in a URL": (
        "[optimizer]",
        '[[data.eval]]\n"path" = "https://me:hunter2@example.org/rows.jsonl"\n[optimizer]',
        '"path" =',
        ("'data.eval.0.path' looks like a secret",),
    ),
    "secret key": ("[model]", '[model]\nhf_token = "x"', "hf_token", ("'model.hf_token' looks like a secret",)),
    "name that leads out": ("max_steps = 20", 'max_steps = 20\nname = "../out"', "name", ("run.name", "../out")),
    "newer format": ("recipe = 1", "recipe = 2", "recipe = 2", ("format 2; this fttool reads format 1", "pip install")),
    "no format": ("recipe = 1", "", "[run]", ("'recipe' is missing", "begin the recipe with: recipe = 1")),
    "no model": ('source = "builtin:tiny-chat"', "", "model]", ("'model.source' is missing",)),
    "no data": ('[[data.train]]\npath = "rows.jsonl"\nformat = "messages"\n', "", "[run]", ("'data' is missing",)),
    "length twice": (
        "max_steps = 20",
        "max_steps = 20\nepochs = 1",
        "max_steps",
        ("both run.epochs and run.max_steps",),
    ),
    "batch that does not divide": (
        "max_steps = 20",
        "max_steps = 20\nmicro_batch = 4\nglobal_batch = 6",
        "global_batch",
        ("global_batch 6 is not a multiple of micro_batch", "e.g. 4"),
    ),
    "pulls on bfloat16 weights": (
        "[optimizer]",
        '[[regularizers]]\nname = "l2-init"\nstrength = 0.1\n'
        '[precision]\nname = "bf16"\nweights = "bfloat16"\n[optimizer]',
        "weights",
        ("cannot be pulled by l2-init", 'weights = "float32"'),
    ),
    "observed and disabled": (
        "[optimizer]",
        '[plugins]\nobserve = ["acme"]\ndisable = ["acme"]\n[optimizer]',
        '"acme"]\ndisable',
        ("plugin 'acme' is both observed and disabled",),
    ),
    "path and hub": ('path = "rows.jsonl"', "limit = 3", "train]", ("data.train needs one of path and hub",)),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_reported_at_its_place(shell: Shell, mistake: str) -> None:
    good, bad, place, said = MISTAKES[mistake]
    assert TEXT.count(good) == 1
    shell.write(TEXT.replace(good, bad))
    answer = shell.call("run")
    where = f"{shell.recipe}:1:1" if mistake in ("no format", "no data") else shell.place(place)
    if mistake in ("syntax", "open string"):  # reported where the value is missing, or where the line ends
        line = where.split(":")[-2]
        assert f"{shell.recipe}:{line}:" in answer.err
        where = ""
    answer.refuses(3, *said, where=where)
    assert SECRET not in answer.err


def test_the_missing_package_of_a_strategy_is_named(shell: Shell) -> None:
    shell.write(TEXT.replace('"wsd"', '"acme.trapezoid"'))
    said = "no installed plugin is named 'acme'", "install the package whose ids start with 'acme.'"
    shell.call("run").refuses(6, *said, where=shell.place('name = "acme'))


def test_all_problems_come_at_once_on_one_screen(shell: Shell) -> None:
    wrong = TEXT.replace("warmup", "warmpu").replace("2e-5", "-1.0").replace("= 20", "= 0").replace('"wsd"', '"cosine"')
    shell.write(wrong)
    answer = shell.call("run")
    answer.refuses(3, where=shell.place("warmpu"))
    answer.refuses(3, where=shell.place("lr"))
    answer.refuses(3, where=shell.place("max_steps"))
    shell.write(TEXT + "".join(f"unknown_{number} = 1\n" for number in range(200)))
    answer = shell.call("run")
    answer.refuses(3, "'schedule.unknown_0'", "more")
    assert "… and 1" in answer.err.splitlines()[-1]


def test_a_value_of_any_length_stays_on_the_screen(shell: Shell) -> None:
    shell.write(TEXT.replace("2e-5", f'"{"x" * 100_000}"'))
    answer = shell.call("run")
    answer.refuses(3, where=shell.place("lr"))
    assert len(answer.err) < 24 * 80


def test_validate_says_the_same_and_as_json_too(shell: Shell, rows: Path) -> None:
    shell.write(TEXT.replace("warmup =", "warmpu ="))
    place = shell.place("warmpu")
    shell.main("validate", str(shell.recipe)).refuses(3, "did you mean 'warmup'?", where=place)
    answer = shell.main("validate", str(shell.recipe), "--json")
    assert answer.code == 3 and [problem["where"] for problem in json.loads(answer.out)] == [place]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("schedule.warmpu=1", ("--set schedule.warmpu: unknown key 'schedule.warmpu'", "did you mean 'warmup'?")),
        ("optimizer.lr=-1", ("--set optimizer.lr: ", "greater than 0")),
        (f"optimizer.lr={SECRET}", ("--set optimizer.lr: 'optimizer.lr' looks like a secret",)),
        ("optimizer.lr", ("is not an override", "write --set key.path=value")),
        ("data.train.7.path=x", ("data.train has no entry 7", "counted from 0")),
    ],
)
def test_a_wrong_override_is_named(shell: Shell, override: str, said: tuple[str, ...]) -> None:
    shell.write(TEXT)
    answer = shell.call("run", "--set", override)
    answer.refuses(3, *said)
    assert SECRET not in answer.err


# -- the command line ----------------------------------------------------------------------------------------------


def test_an_unknown_verb_gets_the_nearest(shell: Shell) -> None:
    shell.main("rnu", "recipe.toml").refuses(2, "unknown command 'rnu'", "did you mean 'run'?")


def test_a_terminal_that_knows_few_letters_ends_nothing() -> None:
    command = [sys.executable, "-m", "fttool", "--help"]
    encoding = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=encoding)
    assert done.stdout.startswith("usage: fttool COMMAND \\u2026")


@pytest.mark.parametrize("words", [("run",), ("run", "recipe.toml", "--resmue"), ("run", "recipe.toml", "-q", "-v")])
def test_wrong_arguments_are_a_matter_of_usage(shell: Shell, words: tuple[str, ...]) -> None:
    answer = shell.main(*words)
    assert answer.code == 2
    assert "usage: fttool run" in answer.err and "Traceback" not in answer.err


# -- the file ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["missing", "empty", "blank", "folder", "UTF-16", "Latin-1", "binary", "data"])
def test_a_file_that_is_no_recipe_is_refused(shell: Shell, kind: str) -> None:
    file = shell.recipe
    said: tuple[str, ...] = ()
    if kind == "missing":
        file.with_name("recipes.toml").write_text(TEXT)
        said = ("no such file", "did you mean", "recipes.toml")
    elif kind in ("empty", "blank"):
        file.write_text("" if kind == "empty" else "# nothing yet\n\n")
        said = ("the recipe is empty", "it needs at least [model] source")
    elif kind == "folder":
        file.mkdir()
        said = ("this is a folder, not a file",)
    elif kind == "UTF-16":
        file.write_bytes(TEXT.encode("utf-16"))
        said = ("in UTF-16, not in UTF-8", "iconv -f UTF-16 -t UTF-8")
    elif kind == "Latin-1":
        file.write_bytes(TEXT.replace("rows.jsonl", "fön.jsonl").encode("latin-1"))
        said = (":10:10: byte 0xf6 is not UTF-8",)
    elif kind == "binary":
        file.write_bytes(bytes(range(256)) * 4)
    else:
        file.write_text('{"messages": []}\n')
        said = (":1:1: this is not TOML", "this looks like JSON")
    answer = shell.call("run")
    answer.refuses(3, *said)
    assert answer.err.startswith(str(file))


@pytest.mark.parametrize("kind", ["BOM", "CRLF"])
def test_marks_and_line_ends_of_other_systems_change_nothing(shell: Shell, rows: Path, kind: str) -> None:
    def encoded(text: str) -> bytes:
        return b"\xef\xbb\xbf" + text.encode() if kind == "BOM" else text.replace("\n", "\r\n").encode()

    shell.recipe.write_bytes(encoded(TEXT))
    assert shell.main("validate", str(shell.recipe)).code == 0
    shell.write(TEXT.replace("recipe = 1", "recipes = 1"))
    place = shell.place("recipes")
    shell.recipe.write_bytes(encoded(TEXT.replace("recipe = 1", "recipes = 1")))
    shell.call("run").refuses(3, "did you mean 'recipe'?", where=place)


# -- what only the run can know ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("schedule", "key"), [("cosine", "warmup"), ("wsd", "decay"), ("linear", "warmup")])
def test_a_warmup_longer_than_the_epochs_is_refused_at_the_schedule(
    shell: Shell, recipe: dict[str, Any], schedule: str, key: str
) -> None:
    recipe["run"] = {"epochs": 2, "micro_batch": 2}
    recipe["schedule"] = {"name": schedule, key: 50}
    answer = shell.run(recipe)
    answer.refuses(3, "50", "the run has 8", "are shares" if schedule == "wsd" else "share of the run")
    assert shell.place(key) + ": schedule." in answer.err
    recipe["schedule"] = {"name": schedule}
    shell.run(recipe, "--set", f"schedule.{key}=50").refuses(3, "the run has 8", where=f"--set schedule.{key}")


def test_fp16_on_a_cpu_is_refused_before_anything_is_read(shell: Shell, recipe: dict[str, Any], rows: Path) -> None:
    recipe["precision"] = {"name": "fp16"}
    rows.write_text(rows.read_text() + "{")
    answer = shell.run(recipe)
    answer.refuses(3, "fp16, and this run is on a CPU", 'precision = "fp32"', where=shell.place("precision]"))


@pytest.mark.parametrize(("kind", "code"), [("cuda", 3), ("mps", 3)])
def test_bf16_where_the_hardware_lacks_it_is_refused(
    shell: Shell, recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch, kind: str, code: int
) -> None:
    monkeypatch.setattr("fttool.runs.stages.setup.device", lambda: torch.device(kind))
    monkeypatch.setattr("fttool.runs.stages.setup.native_bf16", lambda on: False)
    recipe["precision"] = {"name": "bf16"}
    answer = shell.run(recipe)
    answer.refuses(code, f"{kind} does not compute in bfloat16", '"auto"', where=shell.place("precision]"))


def test_a_schedule_that_never_climbs_is_refused(shell: Shell, recipe: dict[str, Any]) -> None:
    recipe["run"]["max_steps"] = 1
    recipe["schedule"] = {"name": "cosine", "warmup": 1}
    answer = shell.run(recipe)
    answer.refuses(3, "a rate of 0", "warmup = 0", where=shell.place("schedule]"))


# -- where the run goes --------------------------------------------------------------------------------------------


@pytest.fixture
def done(shell: Shell, recipe: dict[str, Any]) -> Path:
    """The run directory of a finished run."""
    assert shell.run(recipe, "-q").code == 0
    return shell.runs / "recipe"


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_run_directory_of_another_recipe_stays_as_it_is(shell: Shell, recipe: dict[str, Any], done: Path) -> None:
    before = content(done)
    recipe["optimizer"] = {"name": "sgd", "lr": 0.1}
    answer = shell.run(recipe)
    assert answer.code == 2 and "exists; it is never overwritten" in answer.err and "--resume" in answer.err
    answer = shell.run(recipe, "--resume")
    assert answer.code == 2 and len(answer.err.splitlines()) <= 24
    assert shell.place('name = "sgd"') + ": optimizer.name was 'adamw', is 'sgd'" in answer.err
    assert shell.place("lr = 0.1") + ": optimizer.lr was 2e-05, is 0.1" in answer.err
    assert content(done) == before


def test_a_folder_that_is_no_run_is_not_resumed(shell: Shell, recipe: dict[str, Any]) -> None:
    (shell.runs / "recipe").mkdir(parents=True)
    (shell.runs / "recipe" / "thesis.txt").write_text("ten years of work")
    answer = shell.run(recipe)
    assert answer.code == 2 and "exists" in answer.err
    answer = shell.call("run", "--resume")
    assert answer.code == 2 and "is not a run directory" in answer.err
    assert content(shell.runs) == {str(shell.runs / "recipe" / "thesis.txt"): b"ten years of work"}


def test_there_must_be_a_run_to_resume(shell: Shell, recipe: dict[str, Any]) -> None:
    shell.run(recipe, "--resume").refuses(2, "no run to resume", "leave --resume out")


@pytest.mark.parametrize("dangling", [False, True])
def test_a_link_that_leads_out_of_the_output_is_refused(shell: Shell, recipe: dict[str, Any], dangling: bool) -> None:
    outside = shell.folder / "outside"
    if not dangling:
        outside.mkdir()
    shell.runs.mkdir()
    (shell.runs / "recipe").symlink_to(outside)
    answer = shell.run(recipe)
    assert answer.code == 2 and "is a link that leads out of" in answer.err and "run.name" in answer.err
    assert not outside.exists() or not list(outside.iterdir())


@pytest.mark.parametrize("name", ["..toml", "...toml"])
def test_a_file_name_that_leads_out_of_the_output_is_refused(shell: Shell, recipe: dict[str, Any], name: str) -> None:
    """The run is named after the file, here `.` or `..`."""
    shell.write(recipe)
    shell.recipe = shell.recipe.rename(shell.folder / name)
    shell.call("run").refuses(2, "leads out of", "run.name")


@pytest.mark.parametrize("depth", ["the folder", "above it"])
def test_an_output_that_is_a_file_is_refused(shell: Shell, recipe: dict[str, Any], depth: str) -> None:
    file = shell.folder / "taken"
    file.write_text("mine")
    recipe["run"]["output"] = str(file if depth == "the folder" else file / "deeper")
    shell.write(recipe)
    answer = shell.main("run", str(shell.recipe))
    answer.refuses(2, f"'{file}' is a file, not a folder", "run.output", where=shell.place("output"))
    assert file.read_text() == "mine"


def unwritable(folder: Path) -> Path:
    """A folder in which nobody writes: for root, to whom rights say nothing, one of the kernel's."""
    if os.geteuid() == 0:
        return Path("/proc")
    folder.mkdir(mode=0o500)
    return folder


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_a_read_only_output_is_refused(shell: Shell, recipe: dict[str, Any]) -> None:
    recipe["run"]["output"] = str(unwritable(shell.folder / "closed") / "runs")
    shell.write(recipe)
    answer = shell.main("run", str(shell.recipe))
    answer.refuses(2, "cannot write in", "run.output", where=shell.place("output"))
