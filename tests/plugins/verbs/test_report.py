"""`fttool report`: its figures are those of the run's files, whatever these hold, and whatever became of the run."""

from __future__ import annotations

import json
import math
import random
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from fttool.cli import main
from fttool.rundir.writer_lock import writer_lock
from fttool.testing import run_recipe
from fttool_plugins.verbs.report import drawing, observing, writing
from fttool_plugins.verbs.report.browsing import browsed
from fttool_plugins.verbs.report.reading import read
from fttool_plugins.verbs.report.series import thinned
from fttool_plugins.verbs.report.writing import as_data

from ...browser import looked_at
from ...rows import write_rows

HOSTILE = "</script><script>alert('1')</script><img src=x onerror=\"a()\"> \x1b[2J \u202e & $x_1^$"


class Parsed(HTMLParser):
    """A page as a stranger to its code reads it: its tags, its text, and the cells of its tables."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.rows: list[list[str]] = []
        self.inside: list[str] = []
        self.feed(page)
        self.text = " ".join("".join(self.texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "style" in self.inside:
            return
        self.texts.append(data)
        if "td" in self.inside or "th" in self.inside:
            self.rows[-1][-1] += f" {data}"

    def row(self, *first: str) -> list[str]:
        """The only row that begins with these cells."""
        cells = [[cell.strip() for cell in row] for row in self.rows]
        found = [row for row in cells if row[: len(first)] == list(first)]
        assert len(found) == 1, (first, cells)
        return found[0]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, fttool_tiny_model: Path) -> Path:
    """A run that learned, measured, saved and dropped."""
    folder = tmp_path_factory.mktemp("report")

    def talk(question: str, answer: str) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}

    write_rows(
        folder / "rows.jsonl", [*(talk(f"What is {n}?", f"It is {n}.") for n in range(20)), talk("Yes?", "No.")] * 2
    )
    write_rows(folder / "old.jsonl", (talk(f"Was it {n}?", "It was.") for n in range(4)))
    recipe = {
        "recipe": 1,
        "run": {"max_steps": 6, "micro_batch": 2, "log_every": 1},
        "model": {"source": str(fttool_tiny_model)},
        "data": {
            "eval_share": 0.2,
            "train": [{"path": "rows.jsonl", "format": "messages"}],
            "retention": [{"path": "old.jsonl"}],
        },
        "filters": [{"name": "exact-duplicates"}],
        "evaluation": {"every": 2, "samples": 1, "sample_tokens": 4, "metrics": ["loss", "token-accuracy"]},
        "checkpoints": {"every": 3},
        "precision": {"name": "fp32"},
    }
    run = run_recipe(recipe, folder)
    assert run.error is None, run.error
    shutil.rmtree(run.run_dir / "checkpoints")
    shutil.rmtree(run.run_dir / "model")
    return run.run_dir


@pytest.fixture
def run(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, to be changed."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(made, tmp_path / "mine"))


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without pictures, for tests of what they say."""
    monkeypatch.setattr(drawing, "installed", lambda: False)


def lines(run: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / name).read_text(encoding="utf-8").splitlines()]


def written(capsys: pytest.CaptureFixture[str], *words: str | Path, file: Path) -> Parsed:
    """The page that the verb writes."""
    capsys.readouterr()
    assert main(["report", *map(str, words)]) == 0
    said = capsys.readouterr()
    assert f"page  {file}" in said.out.splitlines() and "Traceback" not in said.err
    return Parsed(file.read_text(encoding="utf-8"))


def change(run: Path, **values: Any) -> None:
    """Change `summary.json`."""
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    (run / "summary.json").write_text(json.dumps({**summary, **values}), encoding="utf-8")


def test_figures_are_those_of_the_files(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = written(capsys, run, file=run / "report.html")
    summary, logged = json.loads((run / "summary.json").read_text()), lines(run, "metrics.jsonl")
    for metric in ("loss", "token-accuracy"):
        before, after = (summary["eval"][when][metric] for when in ("before", "after"))
        assert [f"{before:.4f}", f"{after:.4f}"] in [[*map(str.strip, row[1:3])] for row in page.rows]
        before, after = (summary["retention"][when]["old"][metric] for when in ("before", "after"))
        assert [f"{before:.4f}", f"{after:.4f}"] in [[*map(str.strip, row[1:3])] for row in page.rows]
    charts = [row for row in page.rows if len(row) == 5 and row[0].strip() == "training"]
    for cells, key in zip(charts, ("loss", "lr", "grad_norm", "tokens_per_second"), strict=True):
        values = {line["step"]: line[key] for line in logged if key in line}
        shown = [float(cell.split()[0].replace(",", "")) for cell in cells[1:]]
        expected = [values[1], values[6], min(values.values()), max(values.values())]
        assert shown == pytest.approx(expected, rel=6e-4 if key != "tokens_per_second" else 2e-3), key
        at = [int(cell.split()[-1]) for cell in cells[3:]]
        assert [values[step] for step in at] == expected[2:], key
    assert f"{summary['train_tokens']:,}" in page.text and "6 of 6" in page.text
    assert "Finished after 6 of 6 updates in" in page.text
    sample = summary["samples"][0]
    for said in ("question", "expected", "before", "after"):
        assert " ".join(sample[said].split()) in page.text or not sample[said].isprintable()
    ((reason, dropped),) = summary["dropped_rows"].items()
    assert page.row("dropped", reason)[2] == str(dropped)
    assert (run / "recipe.toml").read_text().split("\n")[0] in page.text and "optimizer.lr" in page.text


def test_the_page_is_one_file_without_scripts(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = written(capsys, run, file=run / "report.html")
    assert not {"script", "link", "iframe", "object", "embed", "img", "base", "form"} & {tag for tag, _ in page.tags}
    led_to = [value for _, given in page.tags for key, value in given.items() if key in ("href", "src", "xlink:href")]
    assert led_to and all(value and value.startswith("#") for value in led_to)
    ids = [given["id"] for _, given in page.tags if "id" in given]
    assert len(ids) == len(set(ids)) and {f"#{name}" for name in ids} >= set(led_to)
    assert (run / "report.html").stat().st_size < 250_000
    colours = [value or "" for tag, given in page.tags for value in given.values() if tag in ("path", "text", "use")]
    assert any("var(--series-1)" in value for value in colours) and not any("#a000" in value for value in colours)


def test_evaluations_and_checkpoints_are_marked(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marked: list[Any] = []
    monkeypatch.setattr(drawing, "drawn", lambda _, *marks, name: marked.append(marks) or f"[{name}]")
    assert main(["report", str(run)]) == 0
    saved = [line["step"] for line in lines(run, "events.jsonl") if line["event"] == "checkpoint_saved"]
    assert saved and marked[0] == ([0, 2, 4, 6], saved)


def test_hostile_contents_are_text(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sample = dict.fromkeys(("question", "expected", "before", "after"), HOSTILE)
    table = [[HOSTILE, HOSTILE], [HOSTILE, 1.0]]
    change(run, samples=[sample], dropped_rows={HOSTILE: 3}, tables={HOSTILE: table}, row_remarks={HOSTILE: 2})
    change(run, metric_remarks={HOSTILE: HOSTILE})
    row = dict.fromkeys(("dataset", "row", "reason", "by", "like", "excerpt"), HOSTILE)
    (run / "dropped.jsonl").write_text(json.dumps(row) + "\n")
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 6, HOSTILE: 1.5, f"retention_{HOSTILE}_loss": 2.5}) + "\n")
    with (run / "events.jsonl").open("a") as file:
        file.write(json.dumps({"time": HOSTILE, "event": HOSTILE, "text": HOSTILE}) + "\n")
    (run / "recipe.toml").write_text(HOSTILE)
    hostile = run.rename(run.with_name("<b>&'\"$^x$"))
    page = written(capsys, hostile, file=hostile / "report.html")
    assert not {"script", "img"} & {tag for tag, _ in page.tags}
    assert not any("onerror" in given for _, given in page.tags)
    text = (hostile / "report.html").read_text()
    assert "\x1b" not in text and "\u202e" not in text and page.text.count("alert('1')") >= 15
    assert "<b>&'\"$^x$" in page.text


@pytest.mark.usefixtures("undrawn")
def test_odd_values_end_nothing(run: Path) -> None:
    """Whatever type stands where another was expected, at any depth of the summary."""
    kept = json.loads((run / "summary.json").read_text())
    odd = [None, 7, "x", [1], {"a": {"b": []}}, True, 1e400, -3.5, [[]], ""]
    spoiled: list[Any] = [dict.fromkeys(kept, value) for value in odd]
    spoiled += [_with_odd(kept, odd, random.Random(seed)) for seed in range(60)]
    for number, summary in enumerate(spoiled):
        (run / "summary.json").write_text(json.dumps(summary))
        page = Parsed(browsed(read([run])))
        assert "Next:" in page.text, number
        json.dumps(as_data(read([run]), None))


def _with_odd(value: Any, odd: list[Any], rng: random.Random) -> Any:
    """A copy in which about every tenth value is another one."""
    if rng.random() < 0.1:
        return rng.choice(odd)
    if isinstance(value, dict):
        return {key: _with_odd(inner, odd, rng) for key, inner in value.items()}
    return [_with_odd(inner, odd, rng) for inner in value] if isinstance(value, list) else value


@pytest.mark.usefixtures("undrawn")
def test_damaged_lines_are_counted_and_left_out(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = (run / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    spoiled = [*whole[:2], b'{"step": "x", "loss": 9e9}\n', b"\xff\xfe{\n", b"[1]\n", *whole[2:], b'{"step": 99, "lo']
    (run / "metrics.jsonl").write_bytes(b"".join(spoiled))
    page = written(capsys, run, file=run / "report.html")
    assert f"metrics.jsonl: lines 3, 4, 5, {len(spoiled)} are damaged and left out here" in page.text
    assert "9e+09" not in page.text
    assert [line["step"] for line in read([run])[0].metrics] == [json.loads(line)["step"] for line in whole]
    (run / "summary.json").write_text("{")
    page = written(capsys, run, file=run / "report.html")
    assert "How it ended is not known" in page.text and "summary.json is missing or damaged" in page.text


@pytest.mark.usefixtures("undrawn")
def test_a_run_that_goes_on_or_was_killed_says_so(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "summary.json").unlink()
    logged = lines(run, "metrics.jsonl")
    events = (run / "events.jsonl").read_text().splitlines(keepends=True)
    (run / "events.jsonl").write_text("".join(line for line in events if '"ended"' not in line))
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "lo')
    with writer_lock(run):
        page = written(capsys, run, file=run / "report.html")
    assert "Still running, at update 6 of 6." in page.text and "damaged" not in page.text
    page = written(capsys, run, file=run / "report.html")
    assert "Killed, or its machine went down, after 6 of 6 updates." in page.text and "--resume" in page.text
    assert "metrics.jsonl: line" in page.text
    measured = [line["eval_loss"] for line in logged if "eval_loss" in line]
    assert [f"{measured[0]:.4f}", f"{measured[-1]:.4f}"] in [[*map(str.strip, row[1:3])] for row in page.rows]


@pytest.mark.usefixtures("undrawn")
def test_a_summary_from_before_a_resumption_is_not_its_end(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(run, status="interrupted", steps=3)
    with (run / "events.jsonl").open("a") as file:
        file.write(json.dumps({"event": "resumed", "step": 3, "total_steps": 8}) + "\n")
    with writer_lock(run):
        page = written(capsys, run, file=run / "report.html")
    assert "Still running, at update 6 of 8." in page.text and "nterrupted" not in page.text


@pytest.mark.usefixtures("undrawn")
def test_predictions_stand_beside_what_it_was(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(run, forecasts={"cost": {"predicted": {"seconds": 12.5, "source": "x"}, "actual": {"seconds": 11.25}}})
    page = written(capsys, run, file=run / "report.html")
    assert page.row("cost: seconds")[1:] == ["12.5", "11.25"]


def test_one_that_diverged_says_where(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(run, status="diverged", steps=3)
    events = lines(run, "events.jsonl")
    said = {"event": "diverged", "step": 4, "what": "the loss of update 4 is nan", "rows": ["rows.jsonl:7"]}
    events[-1:] = [said, {"event": "ended", "status": "diverged", "step": 3}]
    (run / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in events))
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "loss": "nan"}\n{"step": 8, "loss": "inf"}\n')
    page = written(capsys, run, file=run / "report.html")
    assert "Diverged after 3 of 6 updates" in page.text and "the loss of update 4 is nan" in page.text
    assert "not finite at 7, 8" in page.text


@pytest.mark.usefixtures("undrawn")
def test_nothing_logged_nothing_measured_nothing_dropped(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("metrics.jsonl", "events.jsonl", "dropped.jsonl", "lock.json", "recipe.toml"):
        (run / name).unlink()
    change(run, eval={}, retention={}, dropped_rows={}, samples=[])
    page = written(capsys, run, file=run / "report.html")
    for said in ("Nothing is logged yet", "Nothing was measured", "No row was dropped", "lock.json is missing"):
        assert said in page.text, said


def test_runs_over_one_another(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = Path(shutil.copytree(run, run.with_name("other")))
    text = (other / "recipe.resolved.toml").read_text()
    (other / "recipe.resolved.toml").write_text(text.replace("seed = 0", "seed = 5", 1))
    change(other, status="interrupted", steps=4)
    page = written(capsys, run, other, file=Path("report.html"))
    assert ["run.seed", "0", "5"] in [[*map(str.strip, row)] for row in page.rows]
    losses = [row for row in page.rows if len(row) == 5 and row[0].strip() in ("mine", "other")][2:]
    values = [line["loss"] for line in lines(run, "metrics.jsonl") if "loss" in line]
    assert float(losses[0][1]) == pytest.approx(values[0], rel=6e-4) and len(losses) % 2 == 0
    assert "Interrupted after 4 of 6 updates" in page.text
    assert main(["report", str(run), str(other), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [one["status"] for one in data["runs"]] == ["finished", "interrupted"] and data["page"] is None
    assert data["differs"]["run.seed"] == [0, 5]


def test_json_has_the_figures_of_the_files(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(run), "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)["runs"]
    values = {line["step"]: line["loss"] for line in lines(run, "metrics.jsonl") if "loss" in line}
    loss = next(curve for curve in one["curves"]["loss"] if curve["measured_on"] == "training")
    assert (loss["first"], loss["last"], loss["points"]) == (values[1], values[6], 6)
    assert (loss["lowest"]["value"], loss["highest"]["value"]) == (min(values.values()), max(values.values()))
    assert values[loss["lowest"]["step"]] == min(values.values())
    assert sum(line["rows"] for line in one["dropped"]) == len(lines(run, "dropped.jsonl"))
    assert not (run / "report.html").exists()


@pytest.mark.usefixtures("undrawn")
def test_what_it_has_not_written_is_never_overwritten(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "report.html").write_text("<p>mine</p>")
    assert main(["report", str(run)]) == 2
    assert "is never overwritten" in capsys.readouterr().err and (run / "report.html").read_text() == "<p>mine</p>"
    assert main(["report", str(run), "-o", "new.html"]) == main(["report", str(run), "-o", "new.html"]) == 0
    assert main(["report", str(run), "-o", "nowhere/new.html"]) == 2
    assert main(["report", str(run), "-o", str(run)]) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.usefixtures("undrawn")
def test_what_is_not_a_run_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    for wrong, said in (("nobody", "does not exist"), ("empty", "not a run"), (run / "lock.json", "is a file")):
        assert main(["report", str(wrong)]) == 2
        assert said in capsys.readouterr().err
    assert not list(Path("empty").iterdir())


@pytest.mark.usefixtures("undrawn")
def test_without_matplotlib_the_figures_stay(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = written(capsys, run, file=run / "report.html")
    assert "pip install 'fttool[plot]'" in page.text and "svg" not in {tag for tag, _ in page.tags}
    assert len([row for row in page.rows if row and row[0].strip() == "training"]) == 4


@pytest.mark.usefixtures("undrawn")
def test_a_run_writes_its_own_page(
    fttool_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observing, "SECONDS", 0.0)
    pages: list[str] = []
    write = writing.write
    monkeypatch.setattr(writing, "write", lambda file, runs: pages.append(browsed(runs)) or write(file, runs))
    recipe = {**fttool_recipe, "checkpoints": {"every": 2}, "plugins": {"observe": ["report"]}}
    run = run_recipe(recipe, tmp_path)
    assert run.error is None, run.error
    texts = [Parsed(page).text for page in pages]
    assert "Still running, at update 2 of 4." in texts[0] and "Finished after 4 of 4 updates" in texts[-1]
    assert "Finished after 4 of 4 updates" in (run.run_dir / "report.html").read_text()


@pytest.mark.parametrize("seed", range(20))
def test_thinning_keeps_what_an_eye_would_see(seed: int) -> None:
    """Against a twin that looks at each part of the updates by itself."""
    rng = random.Random(seed)
    count, buckets = rng.choice([3, 50, 400, 5000]), rng.choice([1, 7, 60])
    steps = sorted(rng.sample(range(1, 10 * count + 1), count))
    values = [rng.choice([rng.gauss(0, 1), rng.gauss(0, 1), 1e6 * rng.random(), math.nan, math.inf]) for _ in steps]
    kept_steps, kept = thinned(steps, values, buckets)
    assert len(kept) == len(kept_steps) <= max(4 * buckets, 5 * buckets) and set(kept_steps) <= set(steps)
    assert kept_steps == sorted(set(kept_steps)) and (kept_steps[0], kept_steps[-1]) == (steps[0], steps[-1])
    by_step = dict(zip(steps, map(repr, values), strict=True))
    assert [by_step[step] for step in kept_steps] == list(map(repr, kept))
    for part in range(buckets):
        low, high = (steps[0] + (steps[-1] - steps[0] + 1) * edge / buckets for edge in (part, part + 1))

        def within(some_steps: list[int], some: list[float], low: float = low, high: float = high) -> list[float]:
            return [value for step, value in zip(some_steps, some, strict=True) if low <= step < high]

        whole, rest = within(steps, values), within(kept_steps, kept)
        finite = [[value for value in these if math.isfinite(value)] for these in (whole, rest)]
        assert [(min(these), max(these)) for these in finite if these][:1] == [
            (min(these), max(these)) for these in finite[1:] if these
        ]
        assert (len(finite[0]) < len(whole)) == (len(finite[1]) < len(rest))


def test_thousands_of_updates_stay_a_small_page(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng, spike = random.Random(0), 4321
    keys = ("loss", "lr", "grad_norm", "tokens_per_second")
    with (run / "metrics.jsonl").open("w") as file:
        for step in range(1, 6001):
            values = {key: 50.0 if step == spike and key == "loss" else 1 + rng.random() for key in keys}
            file.write(json.dumps({"step": step, **values}) + "\n")
    page = written(capsys, run, file=run / "report.html")
    assert (run / "report.html").stat().st_size < 300_000
    training = next(row for row in page.rows if row and row[0].strip() == "training")
    assert training[4].split() == ["50", "at", "4,321"]


@pytest.mark.full
def test_a_browser_shows_it_on_a_narrow_screen(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(run, samples=[{"question": "x" * 900, "expected": "", "before": "a b " * 200, "after": HOSTILE}])
    written(capsys, run, file=run / "report.html")
    other = Path(shutil.copytree(run, run.with_name("other-" + "long" * 20)))
    change(other, status="failed")
    written(capsys, run, other, file=Path("report.html"))
    for file in (run / "report.html", Path("report.html")):
        light, dark = (looked_at(file, tmp_path, dark=is_dark) for is_dark in (False, True))
        assert light.width <= 400 and light.beyond == dark.beyond == []
        assert light.console == dark.console == [] and light.elements > 300
        assert light.back == "rgb(255, 255, 255)" != dark.back
    bad = tmp_path / "bad.html"
    bad.write_text("<p style='width: 700px'>wide<script>nobody()</script>")
    seen = looked_at(bad, tmp_path)
    assert seen.width > 400 and seen.beyond and seen.console, "what the above asserts can fail"
