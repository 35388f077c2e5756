"""Runs side by side: what differs, what was gained and lost, and what is said of runs that are not whole."""

import csv
import io
import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from tomli_w import dumps

from fttool.cli import main
from fttool.testing import run_recipe
from fttool_plugins.verbs.compare import page
from fttool_plugins.verbs.compare.past import PastRun, differences, labels, read_runs
from fttool_plugins.verbs.compare.plotting import place_names

from ...probes import imported_by

RECIPE: dict[str, Any] = {
    "recipe": 1,
    "run": {"name": "a", "seed": 1, "output": "runs", "folder": "/home/me"},
    "optimizer": {"name": "adamw", "lr": 1e-3, "betas": [0.9, 0.99]},
    "regularizers": [{"name": "l2-init", "strength": 0.01}],
}
SUMMARY: dict[str, Any] = {
    "status": "finished",
    "steps": 100,
    "total_steps": 100,
    "seconds": 75.4,
    "tokens_per_second": 1234.5,
    "peak_memory_bytes": 3 * 2**29,
    "eval": {"before": {"loss": 3.0, "accuracy": 0.25}, "after": {"loss": 2.0, "accuracy": 0.75}},
    "retention": {"before": {"old": {"loss": 1.0, "accuracy": 0.5}}, "after": {"old": {"loss": 1.25, "accuracy": 0.5}}},
    "better_is": {"loss": "lower", "accuracy": "higher"},
}
LOCK: dict[str, Any] = {
    "packages": {"torch": "2.13.0"},
    "code": {"fttool": {"version": "0.1.0", "sha256": "01" * 32}},
    "files": [{"table": "data.train.0", "sha256": "ab" * 32}],
    "model": {"path": "x", "model.safetensors": "sha256:" + "cd" * 32},
    "hardware": {"cores": 2, "gpus": []},
}


def made(path: Path, *, recipe: Any = None, summary: Any = None, lock: Any = None) -> Path:
    """A run directory with these changes to what stands above."""
    path.mkdir(parents=True)
    (path / "recipe.resolved.toml").write_text(dumps({**RECIPE, **(recipe or {})}))
    (path / "summary.json").write_text(json.dumps({**SUMMARY, **(summary or {})}))
    (path / "lock.json").write_text(json.dumps({**LOCK, **(lock or {})}))
    return path


def compared(capsys: pytest.CaptureFixture[str], *words: str | Path, code: int = 0) -> tuple[str, str]:
    assert main(["compare", *map(str, words)]) == code
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_gains_have_the_sign_of_what_is_better(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run,) = read_runs([made(tmp_path / "a")])
    assert (run.gained["loss"].gain, run.gained["accuracy"].gain) == (1.0, 0.5)
    assert run.retained["old"]["loss"].gain == -0.25 and run.lost("loss") == 0.25 and run.lost("accuracy") == 0
    out, err = compared(capsys, tmp_path / "a")
    assert ["loss", "3.0000", "→", "2.0000", "+1.0000"] in [line.split() for line in out.splitlines()]
    assert "old loss" in out and "1.0000 → 1.2500  −0.2500" in out and "0.2500 → 0.7500  +0.5000" in out
    for part in ("finished", "100 of 100", "1:15", "1,234", "1.50"):
        assert part in out
    assert "what differs" not in out and not err


def test_what_is_lost_is_the_mean_over_datasets(tmp_path: Path) -> None:
    retention = {
        "before": {"old": {"loss": 1.0}, "more": {"loss": 2.0}, "third": {"loss": 5.0}},
        "after": {"old": {"loss": 1.5}, "more": {"loss": 2.3}, "third": {"loss": 4.9}},
    }
    (run,) = read_runs([made(tmp_path / "a", summary={"retention": retention})])
    assert run.lost("loss") == pytest.approx((0.5 + 0.3 - 0.1) / 3)
    assert run.lost("accuracy") is None


def test_only_what_differs_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = made(tmp_path / "a")
    b = made(
        tmp_path / "b",
        recipe={
            "run": {"name": "b", "seed": 1, "output": "elsewhere", "folder": "/tmp"},
            "optimizer": {"name": "sgd", "lr": 1e-3, "betas": [0.9, 0.999]},
            "regularizers": [],
        },
        lock={
            "packages": {"torch": "2.14.0"},
            "code": {"fttool": {"version": "0.1.0", "sha256": "23" * 32}},
            "files": [{"table": "data.train.0", "sha256": "ef" * 32}],
        },
    )
    assert differences(read_runs([a, b])) == {
        "optimizer.name": ["adamw", "sgd"],
        "optimizer.betas": [[0.9, 0.99], [0.9, 0.999]],
        "regularizers.0.name": ["l2-init", None],
        "regularizers.0.strength": [0.01, None],
        "content of data.train.0": ["abababab", "efefefef"],
        "version of torch": ["2.13.0", "2.14.0"],
        "code of fttool": ["01010101", "23232323"],
    }
    out, _ = compared(capsys, a, b)
    (line,) = [line for line in out.splitlines() if line.startswith("optimizer.betas")]
    assert line.split(maxsplit=1)[1].split("  ")[0] == "[0.9, 0.99]" and line.endswith("[0.9, 0.999]")
    (line,) = [line for line in out.splitlines() if line.startswith("regularizers.0.strength")]
    assert line.split()[1:] == ["0.01", "–"]


def test_runs_of_different_tasks_stand_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chat = made(tmp_path / "chat", summary={"eval": {"before": {"perplexity": 9.0}, "after": {"perplexity": 4.0}}})
    spam = made(
        tmp_path / "spam",
        summary={
            "eval": {"before": {"f1": 0.5}, "after": {"f1": 0.9}},
            "retention": {"before": {}, "after": {}},
            "better_is": {"f1": "higher"},
        },
    )
    out, _ = compared(capsys, chat, spam)
    rows = {line.split("  ")[0]: line.split("  ", 1)[1].split() for line in out.splitlines() if "  " in line}
    assert rows["f1"][0] == "–" and rows["f1"][-1] == "+0.4000"
    assert rows["old loss"][-1] == "–" and rows["perplexity"][-1] == "–"


def test_a_wide_comparison_is_cut_into_blocks(tmp_path: Path) -> None:
    runs = read_runs([made(tmp_path / f"run-{number}") for number in range(7)])
    lines = page(runs, 100)
    assert max(map(len, lines)) <= 100
    assert 1 < sum(line.startswith("status") for line in lines) < 7
    assert " ".join(lines).count("finished") == 7
    assert sum(line.startswith("status") for line in page(runs, 10)) == 7, "one a block where nothing fits"


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["runs/a", "runs/b"], ["a", "b"]),
        (["x/runs/a", "y/runs/a"], ["x/runs/a", "y/runs/a"]),
        (["x/a", "y/a", "y/b"], ["x/a", "y/a", "b"]),
        (["x/a", "x/a", "x/../x/a"], ["a", "a (2)", "a (3)"]),
    ],
)
def test_each_run_has_a_label_of_its_own(paths: list[str], expected: list[str]) -> None:
    assert labels([Path(path) for path in paths]) == expected


# -- runs that are not whole ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "sentence", "hint"),
    [
        ("runs/aa", "runs/aa' does not exist", "did you mean 'a'?"),
        ("runs/a/summary.json", "is a file, not a run directory", "did you mean its folder"),
        ("runs", "is not a run directory", "it holds runs: "),
        ("empty", "is not a run directory", "`fttool run` makes them"),
        ("no/where/at/all", "no/where/at/all' does not exist", ""),
    ],
)
def test_what_is_no_run_is_refused(
    tmp_path: Path, what: str, sentence: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made(tmp_path / "runs" / "a")
    (tmp_path / "empty").mkdir()
    out, err = compared(capsys, tmp_path / "runs" / "a", tmp_path / what, code=2)
    assert sentence in err and hint in err and not out


def test_all_paths_that_are_no_runs_are_named_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, err = compared(capsys, tmp_path / "one", tmp_path / "two", code=2)
    assert "one'" in err and "two'" in err


@pytest.mark.parametrize(
    ("file", "content", "status", "sentence"),
    [
        ("summary.json", None, "unfinished", "no summary.json: it is still running, or was killed"),
        ("summary.json", '{"status": "fini', "damaged", "summary.json is missing or damaged: JSONDecodeError"),
        ("summary.json", "[1, 2]", "damaged", "summary.json is missing or damaged: ValueError: it holds no table"),
        ("summary.json", "{}", "damaged", "summary.json is damaged: it has no status"),
        ("recipe.resolved.toml", "recipe = ", "finished", "recipe.resolved.toml is missing or damaged"),
        ("recipe.resolved.toml", None, "finished", "recipe.resolved.toml is missing or damaged"),
        ("lock.json", "\x00", "finished", "lock.json is missing or damaged"),
    ],
)
def test_a_broken_run_is_said_and_the_others_are_compared(
    tmp_path: Path,
    file: str,
    content: str | None,
    status: str,
    sentence: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    good, bad = made(tmp_path / "good", recipe={"batching": {"name": "padded"}}), made(tmp_path / "bad")
    if content is None:
        (bad / file).unlink()
    else:
        (bad / file).write_text(content)
    out, err = compared(capsys, good, bad)
    assert sentence in err and "+1.0000" in out
    (line,) = [line for line in out.splitlines() if line.startswith("status")]
    assert line.split()[1:] == ["finished", status]
    for words in (["--json"], ["--csv"]):
        compared(capsys, good, bad, *words)


def test_numbers_that_cannot_be_are_named_and_not_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = made(tmp_path / "a", summary={"status": None, "seconds": -1, "tokens_per_second": "fast"})
    out, err = compared(capsys, run)
    for said in ("it has no status", "its seconds cannot be -1", "its tokens_per_second cannot be 'fast'"):
        assert f"{run}: summary.json is damaged: {said}" in err
    rows = {line.split("  ")[0]: line.split()[-1] for line in out.splitlines() if line}
    assert (rows["status"], rows["time in updates"], rows["tokens/s"]) == ("damaged", "–", "–")


@pytest.mark.parametrize("value", [None, "nan", "oops", [1], {}, True, 10**400])
def test_odd_numbers_in_a_summary_do_no_harm(tmp_path: Path, value: Any, capsys: pytest.CaptureFixture[str]) -> None:
    odd = {
        **dict.fromkeys(("steps", "total_steps", "seconds", "tokens_per_second", "peak_memory_bytes"), value),
        "eval": {"before": {"loss": value}, "after": {"loss": value}},
        "retention": {"before": {"old": value}, "after": value},
        "better_is": value,
    }
    run = made(tmp_path / "odd", summary=odd)
    for words in ([], ["--json"], ["--csv"]):
        compared(capsys, run, *words)


@pytest.mark.parametrize(
    ("lines", "shown"),
    [
        ('{"step": 0}\n{"step": 40}\n{"step": 6', "40 of –"),
        ("", "– of –"),
        ('{"step": 0}\nrubbish\n', "– of –"),
        ("[5]\n", "– of –"),
    ],
)
def test_an_unfinished_run_says_how_far_it_is(
    tmp_path: Path, lines: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = made(tmp_path / "a")
    (run / "summary.json").unlink()
    (run / "metrics.jsonl").write_text(lines)
    out, err = compared(capsys, run)
    assert shown in out and "still running" in err


def test_an_interrupted_run_has_no_gain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended = {"status": "interrupted", "eval": {"before": {"loss": 3.0}, "after": {}}}
    out, _ = compared(capsys, made(tmp_path / "a", summary=ended))
    assert "interrupted" in out and "3.0000 → –" in out


def test_a_run_that_says_nothing_of_better_or_worse_has_no_gain(tmp_path: Path) -> None:
    (run,) = read_runs([made(tmp_path / "old", summary={"better_is": {}})])
    assert run.gained["loss"].gain is None and run.lost("loss") is None


# -- for programs ------------------------------------------------------------------------------------------------------


def test_json_and_csv_hold_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = made(tmp_path / "a")
    b = made(tmp_path / "b", recipe={"optimizer": {"name": "sgd"}}, summary={"retention": {}})
    out, _ = compared(capsys, a, b, "--json")
    data = json.loads(out)
    assert data["runs"][0]["retention"]["old"]["loss"] == {"before": 1.0, "after": 1.25, "gain": -0.25}
    assert data["differs"]["optimizer.name"] == ["adamw", "sgd"]
    out, _ = compared(capsys, a, b, "--csv")
    first, second = csv.DictReader(io.StringIO(out))
    assert first["run"] == "a" and second["optimizer.name"] == "sgd"
    assert float(first["eval.loss.gain"]) == 1.0 and float(first["retention.old.loss.gain"]) == -0.25
    assert second["retention.old.loss.gain"] == "" and second["optimizer.lr"] == ""


def test_it_imports_no_torch(tmp_path: Path) -> None:
    run = made(tmp_path / "a")
    code = f"from fttool.cli import main; main(['compare', {str(run)!r}])"
    assert imported_by(code, "torch", "transformers", "matplotlib") == set()


def test_runs_as_they_are_made(
    tmp_path: Path, fttool_recipe: dict[str, Any], fttool_rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = fttool_rows.read_text().splitlines(keepends=True)
    for name, chosen in (("new", lines[:12]), ("old", lines[12:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(chosen))
    fttool_recipe["data"] = {
        "train": [{"path": "new.jsonl"}],
        "eval_share": 0.3,
        "retention": [{"path": "old.jsonl"}],
    }
    fttool_recipe["evaluation"] = {"samples": 0}
    made_runs = [
        run_recipe(fttool_recipe, tmp_path, overrides=[f"run.name=lr-{lr}", f"optimizer.lr={lr}"])
        for lr in (1e-3, 1e-2)
    ]
    out, err = compared(capsys, *(run.run_dir for run in made_runs), "--json")
    data = json.loads(out)
    assert data["differs"] == {"optimizer.lr": [0.001, 0.01]} and not err
    for shown, run in zip(data["runs"], made_runs, strict=True):
        delta = run.summary["retention"]["delta"]["old"]["loss"]
        assert shown["retention"]["old"]["loss"]["gain"] == pytest.approx(-delta)
        evaluated = run.summary["eval"]
        assert shown["eval"]["loss"]["gain"] == evaluated["before"]["loss"] - evaluated["after"]["loss"]


# -- the plot ---------------------------------------------------------------------------------------------------------


def test_the_plot_has_every_run_that_can_be_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [made(tmp_path / name) for name in ("a", "b")]
    bare = made(tmp_path / "bare", summary={"retention": {}})
    file = tmp_path / "plot.png"
    _, err = compared(capsys, *runs, bare, "--plot", file)
    assert file.read_bytes().startswith(b"\x89PNG") and f"wrote {file}" in err
    assert "bare: not in the plot" in err and "a: not in" not in err
    for kind, start in ((".svg", b"<?xml"), (".pdf", b"%PDF")):
        compared(capsys, *runs, "--plot", tmp_path / f"plot{kind}", "--metric", "accuracy")
        assert (tmp_path / f"plot{kind}").read_bytes().startswith(start)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--plot", "plot.txt"], "the suffix may be .png, .svg, .pdf"),
        (["--plot", "nowhere/plot.png"], "the folder 'nowhere' does not exist"),
        (["--plot", "plot.png", "--metric", "los"], "did you mean 'loss'?"),
        (["--metric", "loss"], "add --plot FILE.png"),
    ],
)
def test_a_plot_that_cannot_be_is_refused(
    tmp_path: Path,
    words: list[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    _, err = compared(capsys, made(tmp_path / "a"), *words, code=2)
    assert sentence in err


def test_what_is_not_finite_is_not_drawn_and_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And the metric is that which most runs can be drawn by."""
    good = made(tmp_path / "good")
    diverged = [
        made(
            tmp_path / name,
            summary={"eval": {"before": {"loss": 3.0, "accuracy": 0.2}, "after": {"loss": after, "accuracy": 0.3}}},
        )
        for name, after in (("nan", "nan"), ("inf", "inf"))
    ]
    _, err = compared(capsys, good, *diverged, "--plot", tmp_path / "plot.png", "--metric", "loss")
    for name in ("nan", "inf"):
        assert f"{name}: not in the plot: its loss gained or forgotten is not finite" in err
    assert "good: not" not in err
    _, err = compared(capsys, good, *diverged, "--plot", tmp_path / "plot.png")
    assert "not in the plot" not in err
    none = tmp_path / "none.png"
    _, err = compared(capsys, *diverged, "--plot", none, "--metric", "loss", code=2)
    assert "no run has a finite gain and a finite loss of loss to plot" in err and not none.exists()


def test_runs_without_retention_cannot_be_plotted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare = made(tmp_path / "bare", summary={"retention": {}})
    _, err = compared(capsys, bare, "--plot", tmp_path / "plot.png", code=2)
    assert "no run has both" in err and "[[data.retention]]" in err


def test_without_matplotlib_the_extra_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    _, err = compared(capsys, made(tmp_path / "a"), "--plot", tmp_path / "plot.png", code=2)
    assert "pip install 'fttool[plot]'" in err


@pytest.mark.parametrize("seed", range(20))
def test_no_name_lies_over_another_or_over_a_point(seed: int) -> None:
    """Random points, clustered points, and points that are all one; names of any length."""
    chance = random.Random(seed)
    count, spread = chance.randint(1, 40), chance.choice([0, 5, 60, 400])
    points = [(500 + chance.uniform(-spread, spread), 400 + chance.uniform(-spread, spread)) for _ in range(count)]
    sizes = [(chance.uniform(20, 200), 12.0) for _ in points]
    corners = place_names(points, sizes, (0, 0, 1000, 800))
    boxes = [(x, y, x + w, y + h) for (x, y), (w, h) in zip(corners, sizes, strict=True)]

    def apart(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
        return one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]

    for index, box in enumerate(boxes):
        assert all(apart(box, other) for other in boxes[:index])
        assert all(apart(box, (x - 3, y - 3, x + 3, y + 3)) for x, y in points)
        assert box[0] >= 0 and box[2] <= 1000, "there is room inside"


def test_the_picture_shows_every_point_and_every_name() -> None:
    """As matplotlib sets it: names of runs that are close, or the same, do not lie over each other."""
    from matplotlib.figure import Figure

    from fttool_plugins.verbs.compare.plotting import fill

    points = [(f"run-{number}", 1 + (number % 3) / 1000, 0.2 + number / 5000) for number in range(12)]
    points += [("far", 2.0, -0.1)]
    figure = Figure(figsize=(7.5, 5.5), layout="constrained")
    fill(figure, points, "loss")
    figure.draw_without_rendering()
    (axes,) = figure.axes
    texts = {text.get_text(): text.get_window_extent() for text in axes.texts}
    assert set(texts) == {name for name, *_ in points}
    for name, box in texts.items():
        assert not any(box.overlaps(other) for more, other in texts.items() if more != name), name
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    assert left < 1 and right > 2 and low < -0.1 and high > 0.21
    assert "loss" in axes.get_xlabel() and "loss" in axes.get_ylabel()


def test_a_run_without_any_file_read_compares_to_nothing() -> None:
    assert differences([PastRun(path=Path("a")), PastRun(path=Path("b"))]) == {}
