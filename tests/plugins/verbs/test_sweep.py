"""`fttool sweep`: spaces, what of them is valid, studies that outlive what may happen to them, and what is best."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from tomli_w import dumps

from fttool import load
from fttool.api import UsageError
from fttool.cli import main
from fttool.errors import DivergedError
from fttool_plugins.verbs.sweep import ending, trials, workers
from fttool_plugins.verbs.sweep.ending import Seeded, how_sure
from fttool_plugins.verbs.sweep.fitting import Fitting, check_spaces
from fttool_plugins.verbs.sweep.spaces import Choice, Range, read_spaces

from ...rows import write_rows
from . import fake_trials
from .fake_trials import BEST, fake, loss_of

LR = "optimizer.lr=1e-5..1:log"
SCRIPT = [sys.executable, str(Path(fake_trials.__file__))]


@pytest.fixture(autouse=True, scope="module")
def quick_disk() -> Iterator[None]:
    """SQLite waits for no disk: nothing here is about a machine that loses power."""

    def hurry(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA synchronous=OFF")

    sqlalchemy.event.listen(sqlalchemy.Engine, "connect", hurry)
    yield
    sqlalchemy.event.remove(sqlalchemy.Engine, "connect", hurry)


@pytest.fixture
def recipe(fttool_recipe: dict[str, Any], tmp_path: Path, fttool_rows: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "rows.jsonl").write_text(fttool_rows.read_text())
    old = [{"messages": [{"role": "user", "content": "a b"}, {"role": "assistant", "content": "c"}]}] * 2
    write_rows(tmp_path / "old.jsonl", old)
    fttool_recipe |= {
        "run": {"max_steps": 6, "micro_batch": 4, "global_batch": 4, "log_every": 2},
        "data": {
            "train": [{"path": "rows.jsonl", "format": "messages"}],
            "retention": [{"path": "old.jsonl", "name": "old"}],
            "eval_share": 0.2,
        },
        "evaluation": {"every": 2, "samples": 0},
    }
    monkeypatch.chdir(tmp_path)
    return written(fttool_recipe)


def written(recipe: dict[str, Any]) -> Path:
    Path("my.toml").write_text(dumps(recipe))
    return Path("my.toml")


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, fake())


def use(monkeypatch: pytest.MonkeyPatch, run: Any) -> None:
    """Trials, and runs with further seeds, are these."""
    monkeypatch.setattr(trials, "short_run", run)
    monkeypatch.setattr(ending, "short_run", run)


def over(*spaces: str) -> list[str]:
    return [word for space in spaces for word in ("--over", space)]


def swept(captured: pytest.CaptureFixture[str], *words: str, code: int = 0) -> dict[str, Any]:
    """What `--json` says."""
    captured.readouterr()
    assert main(["sweep", "my.toml", *words, "--json"]) == code, captured.readouterr().err
    return json.loads(captured.readouterr().out)


def refused(captured: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    captured.readouterr()
    try:
        code = main(["sweep", "my.toml", *words])
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    return code, captured.readouterr().err


# -- spaces ------------------------------------------------------------------------------------------------------------


def test_spaces_are_read() -> None:
    read = read_spaces(
        [
            "freezing.rank=4..64",
            LR,
            "freezing=full,lora",
            "run.epochs=1,2",
            'schedule={name="wsd", decay=0.1},cosine',
            "optimizer.weight_decay=0..0.2:3",
            "regularizers.0.strength=0.01..1:log:3",
            'data.train.0.path="a,b.jsonl",c.jsonl',
        ]
    )
    assert [space.key.count(".") for space in read] == sorted(space.key.count(".") for space in read)
    by_key = {space.key: space for space in read}
    assert by_key["freezing.rank"] == Range("freezing.rank", 4, 64, log=False, whole=True)
    assert by_key["optimizer.lr"] == Range("optimizer.lr", 1e-5, 1, log=True, whole=False)
    assert by_key["freezing"] == Choice("freezing", ("full", "lora"))
    assert by_key["run.epochs"] == Choice("run.epochs", (1, 2))
    assert by_key["schedule"] == Choice("schedule", ({"name": "wsd", "decay": 0.1}, "cosine"))
    assert by_key["optimizer.weight_decay"] == Choice("optimizer.weight_decay", (0.0, 0.1, 0.2))
    assert by_key["regularizers.0.strength"] == Choice("regularizers.0.strength", (0.01, 0.1, 1.0))
    assert by_key["data.train.0.path"] == Choice("data.train.0.path", ("a,b.jsonl", "c.jsonl"))


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ("optimizer.lr", "does not say which key is to be what"),
        ("=1,2", "does not say which key is to be what"),
        ("optimizer.lr=1e-4", "leaves nothing to choose"),
        ("optimizer.lr=1e-4..1e-5", "does not go up"),
        ("optimizer.lr=0..1:log", "a logarithmic range begins above 0"),
        ("optimizer.lr=1..2:lag", "':lag' is unknown"),
        ("optimizer.lr=1..2:1", "leaves nothing to choose"),
        ("optimizer.lr=1..b", "is not a range"),
        ("freezing=full,full", "has a value twice"),
        ("freezing=full,,lora", "has an empty value"),
    ],
)
def test_spaces_that_say_nothing_are_refused(space: str, said: str) -> None:
    with pytest.raises(UsageError) as wrong:
        read_spaces([space])
    assert said in str(wrong.value)


def test_all_that_is_wrong_with_spaces_is_said_at_once() -> None:
    with pytest.raises(UsageError) as wrong:
        read_spaces(["a=1", "b=2..1", "c=1,2", "c=3,4"])
    assert len(wrong.value.problems) == 3


# -- what is valid -----------------------------------------------------------------------------------------------------


def fitting(*spaces: str, **overrides: Any) -> Fitting:
    return Fitting(load("my.toml", overrides), read_spaces(spaces))


def test_options_of_a_strategy_are_chosen_with_it_alone(recipe: Path) -> None:
    space = fitting("freezing=full,lora,top-layers", "freezing.rank=2,4", "freezing.n=1,2")
    found = [dict(chosen) for chosen in space.all_chosen()]
    assert found == [
        {"freezing": "full"},
        {"freezing": "lora", "freezing.rank": 2},
        {"freezing": "lora", "freezing.rank": 4},
        {"freezing": "top-layers", "freezing.n": 1},
        {"freezing": "top-layers", "freezing.n": 2},
    ]
    assert check_spaces(space).refused == 0


def test_what_validation_refuses_is_never_tried(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`ewc` and `lora` do not go together; each of them has partners."""
    tried: list[tuple[str, int]] = []
    use(monkeypatch, fake(lambda loaded: tried.append((loaded.recipe.freezing.id(), len(loaded.recipe.regularizers)))))
    Path("my.toml").write_text(Path("my.toml").read_text() + '\n[[data.general]]\npath = "old.jsonl"\n')
    words = over("freezing=full,lora", 'regularizers=[],[{name="ewc",strength=1}]', LR)
    found = swept(capsys, *words, "--trials", "8", "--sampler", "random")
    assert set(tried) == {("full", 0), ("full", 1), ("lora", 0)} and len(tried) == 8
    assert found["validated"] == {"looked_at": 8, "refused": 2, "example": found["validated"]["example"]}
    assert "ewc pulls the model's own weights" in found["validated"]["example"]


@pytest.mark.parametrize(
    ("spaces", "said"),
    [
        (["freezing=full,lorra"], 'with "lorra" no recipe is valid'),
        (["optimizer.lrr=1e-4..1e-3:log"], "did you mean 'lr'?"),
        (["optimizer.lr=1e-4..20:log"], "with the end 20 no recipe is valid"),
        (["freezing=full,head-only", "freezing.rank=2,4"], "unknown key 'freezing.rank'"),
        (["run.micro_batch=3,5"], "no recipe is valid"),
        (["schedule.name=constant,wsd", "schedule.shape=linear,sqrt"], 'with "sqrt" no recipe is valid'),
        ([f"freezing={','.join(f'x{n}' for n in range(9))}"], "and with 6 more of its values"),
    ],
)
def test_a_space_that_no_recipe_fits_is_refused_before_anything_is_made(
    spaces: list[str], said: str, recipe: Path, faked: None, capsys: pytest.CaptureFixture[str]
) -> None:
    code, err = refused(capsys, *over(*spaces))
    assert (code, said in err) == (3, True), err
    assert not Path("runs").exists() and len(err.splitlines()) < 12


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "nothing is searched"),
        ([*over(LR), "--objective", "los"], "did you mean 'loss'?"),
        ([*over(LR), "--set", "data.eval_share=0.0"], "has no evaluation rows"),
        ([*over(LR), "--set", "data.retention=[]", "--objective", "forgetting"], "measured on retention rows"),
        ([*over(LR), "--set", "optimizer.lr=1"], "optimizer.lr is both set and searched"),
        ([*over("run.name=a,b")], "run.name is what a sweep gives each trial"),
        ([*over(LR), "--sampler", "grid"], "how many?"),
        ([*over("optimizer.lr=1.0..2.0:99", "run.seed=1..99:99"), "--sampler", "grid"], "the grid has 9,801 recipes"),
        ([*over(LR), "--pruner", "median", "--objective", "loss", "--objective", "forgetting"], "one metric"),
        ([*over(LR), "--seeds", "2", "--objective", "loss", "--objective", "forgetting"], "there is no best"),
        ([*over(LR), "--study", "nonsense"], "the database of --study cannot be reached: ArgumentError"),
        ([*over(LR), "--study", "sqlite:////nowhere/at/all.db"], "cannot be reached: OperationalError"),
        ([*over(LR), "--study", "mysql+absent://a/b"], "the database of --study cannot be reached"),
        ([*over(LR), "--dollars", "3"], "what an hour costs"),
        ([*over(LR), "--trials", "0"], "'0' is not an integer of at least 1"),
        ([*over(LR), "--hours", "-1"], "not a number above 0"),
        ([*over(LR), "--name", "../other"], "is not the name of a folder"),
        ([*over(LR), "-o", "my.toml"], "it is never overwritten"),
        ([*over(LR), "-o", "nowhere/best.toml"], "the folder 'nowhere' does not exist"),
        ([*over(LR), "--sampler", "tpa"], "tpe"),
    ],
)
def test_what_contradicts_itself_is_refused(
    words: list[str], said: str, recipe: Path, faked: None, capsys: pytest.CaptureFixture[str]
) -> None:
    code, err = refused(capsys, *words)
    assert (code, said in err) == (2, True), err
    assert not Path("runs").exists()


# -- searching ---------------------------------------------------------------------------------------------------------


def test_tpe_finds_what_is_best_and_writes_its_recipe(
    recipe: Path, faked: None, capsys: pytest.CaptureFixture[str]
) -> None:
    found = swept(capsys, *over(LR, "freezing=full,head-only"), "--trials", "16", "--pruner", "none")
    best = next(trial for trial in found["trials"] if trial["trial"] == found["best"][0])
    assert best["values"] == [min(trial["values"][0] for trial in found["trials"])]
    assert BEST / 2 < best["chosen"]["optimizer.lr"] < BEST * 2
    assert main(["validate", "runs/my-sweep/best.toml", "--no-rows"]) == 0
    made = load("runs/my-sweep/best.toml")
    assert loss_of(made.recipe) == pytest.approx(best["values"][0]) and made.name == "my-best"
    assert made.recipe.data == load("my.toml").recipe.data
    assert Path(best["run"], "summary.json").exists()


def test_a_grid_is_tried_whole_and_once(recipe: Path, faked: None, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*over("optimizer.lr=1e-4..1e-1:log:4", "freezing=full,lora", "freezing.rank=2,4"), "--sampler", "grid"]
    words += ["--pruner", "none"]
    found = swept(capsys, *words, "--trials", "7")
    assert len(found["trials"]) == 7
    found = swept(capsys, *words, "--trials", "99", "--resume")
    chosen = {json.dumps(trial["chosen"], sort_keys=True) for trial in found["trials"]}
    assert len(found["trials"]) == len(chosen) == 4 * (1 + 2)
    assert {trial["state"] for trial in found["trials"]} == {"complete"}


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_bad_trials_are_stopped_at_an_evaluation(
    pruner: str, recipe: Path, faked: None, capsys: pytest.CaptureFixture[str]
) -> None:
    found = swept(capsys, *over(LR), "--trials", "12", "--sampler", "random", "--pruner", pruner)
    states = {trial["trial"]: trial["state"] for trial in found["trials"]}
    pruned = [trial for trial in found["trials"] if trial["state"] == "pruned"]
    assert len(states) == 12 and 2 <= len(pruned) <= 9
    for trial in pruned:
        summary = json.loads(Path(trial["run"], "summary.json").read_text())
        assert summary["status"] == "interrupted" and f"after update {summary['steps']}" in trial["why"]
    best = min(found["trials"], key=lambda trial: abs(trial["chosen"]["optimizer.lr"] / BEST - 1))
    assert states[found["best"][0]] == "complete" and states[best["trial"]] == "complete"


def test_of_two_objectives_those_remain_that_none_beats(
    recipe: Path, faked: None, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*over("optimizer.lr=1e-4,1e-3,3e-3,1e-2,1e-1"), "--sampler", "grid"]
    found = swept(capsys, *words, "--objective", "loss", "--objective", "forgetting")
    by_rate = {trial["chosen"]["optimizer.lr"]: trial for trial in found["trials"]}
    assert by_rate[1e-2]["values"][1] == pytest.approx(1e-2)
    assert {by_rate[rate]["trial"] for rate in (1e-4, 1e-3, 3e-3)} == set(found["best"])
    assert {load(file).recipe.optimizer.lr for file in found["recipes"].values()} == {1e-4, 1e-3, 3e-3}


def test_a_trial_that_diverges_costs_itself_alone(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def diverge(loaded: Any) -> None:
        if loaded.recipe.optimizer.lr > 0.01:
            raise DivergedError("the loss of update 3 is not finite")

    use(monkeypatch, fake(diverge))
    found = swept(capsys, *over(LR), "--trials", "8", "--sampler", "random", "--pruner", "none")
    diverged = [trial for trial in found["trials"] if trial["chosen"]["optimizer.lr"] > 0.01]
    assert len(found["trials"]) == 8 and diverged
    assert {trial["why"] for trial in diverged} == {"the loss of update 3 is not finite"}


def test_what_ends_every_trial_ends_the_sweep(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def diverge(loaded: Any) -> None:
        raise DivergedError("the loss of update 1 is not finite")

    use(monkeypatch, fake(diverge))
    code, err = refused(capsys, *over(LR))
    assert code == 8 and "the loss of update 1 is not finite" in err
    assert len(Path("runs/my-sweep/trials.jsonl").read_text().splitlines()) == 2


# -- budgets, and how sure it is ---------------------------------------------------------------------------------------


def test_a_budget_too_small_for_one_trial_is_said(
    recipe: Path, faked: None, capsys: pytest.CaptureFixture[str]
) -> None:
    code, err = refused(capsys, *over(LR), "--dollars", "1e-9", "--price", "1000")
    assert code == 2 and "too short for one trial: 0% of the updates of one were made" in err
    found = swept(capsys, *over(LR), "--trials", "2", "--resume")
    assert len(found["trials"]) == 2


def test_a_trial_that_runs_out_of_time_is_tried_again(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use(monkeypatch, fake(seconds=0.4))
    code, err = refused(capsys, *over(LR), "--hours", str(0.3 / 3600))
    assert code == 2 and "the time was too short for one trial: 33% of the updates of one were made" in err
    use(monkeypatch, fake())
    found = swept(capsys, *over(LR), "--trials", "1", "--resume")
    first = json.loads(Path("runs/my-sweep/trials.jsonl").read_text().splitlines()[0])
    assert found["trials"][0]["chosen"] == first["params"] and found["trials"][0]["trial"] > 0


def test_further_seeds_say_how_sure_it_is(recipe: Path, faked: None, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*over("optimizer.lr=1e-4,3e-3,1e-1"), "--sampler", "grid", "--seeds", "3"]
    found = swept(capsys, *words)
    assert [len(one["values"]) for one in found["seeds"]] == [3, 3]
    assert {one["trial"] for one in found["seeds"]} >= {found["best"][0]}
    made = sorted(path.name for path in Path("runs/my-sweep").glob("*-seed-*"))
    assert len(made) == 4
    again = swept(capsys, *words, "--resume")
    assert again["seeds"] == found["seeds"] and sorted(p.name for p in Path("runs/my-sweep").glob("*-seed-*")) == made
    assert sorted(path.name for path in Path("runs/my-sweep").glob("best*")) == ["best-2.toml", "best.toml"]


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ([1.0, 1.01, 0.99], [1.2, 1.21, 1.19], "better by more than two standard errors"),
        ([1.0, 1.1, 0.9], [1.02, 1.1, 0.95], "do not tell them apart"),
        ([1.0, 1.4, 1.41, 1.4], [1.02, 1.03, 1.02, 1.01], "the second is better"),
        ([1.0], [1.1, 1.2], "Too few seeds"),
    ],
)
def test_how_sure_it_is_in_words(first: list[float], second: list[float], said: str) -> None:
    loss: Any = type("Sweep", (), {"objectives": [type("Objective", (), {"higher": False})]})
    assert said in how_sure(loss, [Seeded(0, first), Seeded(1, second)])
    accuracy: Any = type("Sweep", (), {"objectives": [type("Objective", (), {"higher": True})]})
    turned = how_sure(accuracy, [Seeded(0, [-x for x in first]), Seeded(1, [-x for x in second])])
    assert said in turned


# -- studies -----------------------------------------------------------------------------------------------------------


def test_a_sweep_is_not_begun_twice_and_goes_on(recipe: Path, faked: None, capsys: pytest.CaptureFixture[str]) -> None:
    swept(capsys, *over(LR), "--trials", "3")
    code, err = refused(capsys, *over(LR), "--trials", "3")
    assert code == 2 and "the sweep 'runs/my-sweep' exists" in err and "--resume" in err
    found = swept(capsys, *over(LR), "--trials", "5", "--resume")
    assert [trial["trial"] for trial in found["trials"]] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([*over(LR), "--set", "run.max_steps=9"], "run.max_steps was 6 and is 9"),
        ([*over("optimizer.lr=1e-5..2:log")], "--over was optimizer.lr=1e-05..1:log and is optimizer.lr=1e-05..2:log"),
        ([*over(LR), "--objective", "forgetting"], "--objective was loss and is forgetting"),
    ],
)
def test_a_study_of_another_recipe_is_refused_with_what_differs(
    words: list[str], said: str, recipe: Path, faked: None, capsys: pytest.CaptureFixture[str]
) -> None:
    swept(capsys, *over(LR), "--trials", "1")
    before = sorted(Path("runs").rglob("*"))
    code, err = refused(capsys, *words, "--resume")
    assert (code, said in err) == (2, True), err
    Path("runs/my-sweep/made_of.json").write_text("{")
    code, err = refused(capsys, *words, "--resume")
    assert code == 2 and "made_of.json' is damaged" in err
    Path("runs/my-sweep/made_of.json").unlink()  # the study knows it, too
    code, err = refused(capsys, *words, "--resume")
    assert (code, said in err) == (2, True), err
    assert sorted(Path("runs").rglob("*")) == [path for path in before if path.name != "made_of.json"]


def test_a_folder_that_is_no_sweep_is_left_alone(recipe: Path, faked: None, capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs/mine").mkdir(parents=True)
    Path("runs/mine/notes.txt").write_text("mine")
    code, err = refused(capsys, *over(LR), "--name", "mine")
    assert code == 2 and "exists and is not a sweep" in err
    assert [path.name for path in Path("runs/mine").iterdir()] == ["notes.txt"]


@pytest.mark.full
def test_it_outlives_kill_9(recipe: Path, faked: None, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["my.toml", *over(LR), "--trials", "5", "--pruner", "none", "-q"]
    killed = subprocess.run([*SCRIPT, "3", *words], check=False)
    assert killed.returncode == -signal.SIGKILL
    found = swept(capsys, *words[1:], "--resume")
    assert len(found["trials"]) == 5 and {trial["state"] for trial in found["trials"]} == {"complete"}
    lines = [json.loads(line) for line in Path("runs/my-sweep/trials.jsonl").read_text().splitlines()]
    assert [line["params"]["optimizer.lr"] for line in lines] == [
        trial["chosen"]["optimizer.lr"] for trial in found["trials"]
    ]
    assert found["trials"][2]["trial"] == 3  # that of the one that was killed, made again


@pytest.mark.parametrize("damage", ["deleted", "overwritten"])
def test_a_database_that_is_gone_loses_nothing(
    damage: str, recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[Any] = []
    database = Path("runs/my-sweep/study.db")

    def destroy(loaded: Any) -> None:
        made.append(loaded)
        if len(made) == 3:
            database.unlink()
            if damage == "overwritten":
                database.write_bytes(b"not a database" * 1000)

    use(monkeypatch, fake(destroy))
    words = [*over(LR), "--trials", "4", "--pruner", "none"]
    code, err = refused(capsys, *words)
    assert code == 9 and "cannot be reached any more" in err and "--resume" in err, err
    lines = [json.loads(line) for line in Path("runs/my-sweep/trials.jsonl").read_text().splitlines()]
    assert len(lines) == 3
    database.unlink(missing_ok=True)
    found = swept(capsys, *words, "--resume")
    assert [trial["values"] for trial in found["trials"][:3]] == [line["values"] for line in lines]
    assert len(found["trials"]) == 4


@pytest.mark.full
def test_workers_share_a_study(
    recipe: Path, faked: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(workers, "COMMAND", (*SCRIPT, "0"))
    use(monkeypatch, fake(seconds=0.3))
    found = swept(capsys, *over(LR), "--trials", "8", "--pruner", "none", "--workers", "2")
    assert len(found["trials"]) == 8 and {trial["state"] for trial in found["trials"]} == {"complete"}
    assert len({trial["run"] for trial in found["trials"]}) == 8


def test_ctrl_c_puts_the_trial_back_in_line(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[float] = []

    def interrupt(loaded: Any) -> None:
        made.append(loaded.recipe.optimizer.lr)
        if len(made) == 2:
            raise KeyboardInterrupt

    use(monkeypatch, fake(interrupt))
    assert refused(capsys, *over(LR), "--trials", "2")[0] == 130
    found = swept(capsys, *over(LR), "--trials", "2", "--resume")
    assert [trial["chosen"]["optimizer.lr"] for trial in found["trials"]] == made[:2]


# -- for real ----------------------------------------------------------------------------------------------------------


@pytest.mark.full
def test_trials_are_runs_like_any_other(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*over("optimizer.lr=1e-4,3e-2", "freezing=full,head-only"), "--sampler", "grid", "--trials", "3"]
    found = swept(capsys, *words, "--pruner", "none")
    runs = [trial["run"] for trial in found["trials"]]
    capsys.readouterr()
    assert main(["compare", *runs, "--json"]) == 0
    compared: Mapping[str, Any] = json.loads(capsys.readouterr().out)
    assert compared["differs"]["optimizer.lr"] == [trial["chosen"]["optimizer.lr"] for trial in found["trials"]]
    assert [run["eval"]["loss"]["after"] for run in compared["runs"]] == [
        trial["values"][0] for trial in found["trials"]
    ]
    assert not list(Path("runs").rglob("model.safetensors")) and not list(Path("runs").rglob("checkpoint-*"))
    assert main(["report", *runs, "-o", "report.html"]) == 0
