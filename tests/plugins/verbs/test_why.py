"""`fttool why`: the rows named are those that the update saw, their figures are the run's, and bad rows come first."""

from __future__ import annotations

import json
import math
import random
import re
import shutil
from collections import defaultdict
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from transformers import Trainer

from fttool.api import show
from fttool.cli import main
from fttool.rundir.record import Record
from fttool.rundir.writer_lock import writer_lock
from fttool.runs.preparing import prepare_run
from fttool.testing import RunResult, run_recipe, tiny_tokenizer
from fttool.verbs import load_run, revisit
from fttool.watch.screen import Screen
from fttool.watch.watch import Watch
from fttool.world import World
from fttool_plugins.verbs.why.asking import Answer, Asked, Looked
from fttool_plugins.verbs.why.scoring import Scored
from fttool_plugins.verbs.why.screen import as_data, screen
from fttool_plugins.verbs.why.spikes import distances, worst

from ...encoder import save_encoder
from ...rows import write_rows, write_talks

SENTINEL = re.compile(r"(\w+) (\d+)\?")
"""The question of a row names its file and its line, from 0."""
ROWS: dict[str, dict[str, Any]] = {
    "accumulated": {"run": {"epochs": 2, "micro_batch": 2, "global_batch": 6, "log_every": 1}},
    "packed": {
        "run": {"epochs": 2, "micro_batch": 2, "global_batch": 4, "log_every": 1},
        "batching": {"name": "packed", "max_length": 100},
    },
    "mixed": {
        "run": {"max_steps": 10, "micro_batch": 4, "log_every": 1},
        "mixing": {"name": "weighted", "shares": {"row": 0.25, "other": 0.75}},
        "data": {"train": [{"path": "row.jsonl"}, {"path": "other.jsonl"}]},
    },
    "replayed": {
        "run": {"epochs": 2, "micro_batch": 4, "log_every": 1},
        "mixing": {"name": "replay"},
        "data": {"train": [{"path": "row.jsonl"}], "general": [{"path": "other.jsonl"}]},
    },
    "filtered": {
        "run": {"epochs": 2, "micro_batch": "auto", "global_batch": 4, "log_every": 1},
        "filters": [{"name": "words", "max": 16}],
        "data": {"train": [{"path": "row.jsonl"}], "eval_share": 0.2},
        "batching": {"name": "padded", "max_length": 100},
    },
}


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[int, list[str]]:
    """Of each update of a run, from 1, the sentinels in the tokens that the model is about to get, in their order."""
    found: dict[int, list[str]] = defaultdict(list)
    fetch = Trainer.get_batch_samples

    @wraps(fetch)
    def watched(self: Any, *arguments: Any) -> Any:
        batches, items = fetch(self, *arguments)
        for batch in batches:
            for text in map(self.processing_class.decode, batch["input_ids"]):
                found[self.state.global_step + 1] += [":".join(pair) for pair in SENTINEL.findall(text)]
        return batches, items

    monkeypatch.setattr(Trainer, "get_batch_samples", watched)
    return found


def sentinels(origins: list[str]) -> list[str]:
    """`file:line` as a row's own question has it."""
    places = [(Path(file).stem, int(line) - 1) for file, _, line in (one.rpartition(":") for one in origins)]
    return [f"{file}:{line}" for file, line in places]


def recipe_of(case: str, folder: Path, model: Path) -> dict[str, Any]:
    for name, rows in (("row", 22), ("other", 9)):
        write_talks(folder / f"{name}.jsonl", rows, question=name)
    base: dict[str, Any] = {
        "recipe": 1,
        "model": {"source": str(model)},
        "data": {"train": [{"path": "row.jsonl"}]},
        "precision": "fp32",
    }
    return {**base, **ROWS[case]}


@pytest.mark.parametrize("case", ROWS)
def test_the_rows_named_are_those_whose_tokens_the_update_saw(
    case: str, tmp_path: Path, fttool_tiny_model: Path, seen: dict[int, list[str]]
) -> None:
    run = run_recipe(recipe_of(case, tmp_path, fttool_tiny_model), tmp_path)
    assert run.error is None, run.error
    past = revisit(load_run(run.run_dir), tmp_path, quiet=True)
    updates = range(1, run.summary["steps"] + 1)
    assert list(seen) == [*updates] and len(updates) > past.prepared.length.steps_per_epoch
    for update in reversed(updates):
        assert sentinels([past.origin(row) for row in past.rows(update)]) == seen[update], update


def test_they_are_those_of_all_processes(tmp_path: Path, fttool_tiny_model: Path) -> None:
    """Each process's own loader, asked for as many micro-batches as it accumulates."""
    recipe = recipe_of("accumulated", tmp_path, fttool_tiny_model)
    recipe["run"] = {"max_steps": 2, "micro_batch": 1, "global_batch": 6}
    run = run_recipe(recipe, tmp_path)
    assert run.error is None, run.error
    shares = ["sharding={name='ddp',processes=2}", "run.max_steps=9"]
    loaded = load_run(run.run_dir, shares)
    loads = [
        prepare_run(loaded, tmp_path, Watch(loaded, Record(tmp_path), Screen(), on=False), World(rank=rank, size=2))
        for rank in range(2)
    ]
    past = revisit(load_run(run.run_dir), tmp_path, quiet=True)
    per_epoch = past.prepared.length.steps_per_epoch
    for epoch in range(2):
        batches: list[list[Any]] = []
        for one in loads:
            one.batching.loader.set_epoch(epoch)
            batches.append([batch["rows"] for batch in one.batching.loader])
        for update in range(per_epoch):
            own = [rows[3 * update : 3 * update + 3] for rows in batches]
            numbers = sorted(row for rows in own for batch in rows for sequence in batch for row in sequence)
            assert sorted(past.rows(epoch * per_epoch + update + 1)) == numbers


def told(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    """What `fttool why … --json` prints."""
    capsys.readouterr()
    assert main(["why", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def one_row_at_a_time(folder: Path, model: Path, **more: Any) -> RunResult:
    """Each update learns from one row, and has its own checkpoint before it: its loss and its norm are a row's."""
    write_talks(folder / "row.jsonl", 12, question="row")
    recipe = {
        "recipe": 1,
        "run": {"max_steps": 5, "micro_batch": 1, "log_every": 1},
        "model": {"source": str(model)},
        "data": {"train": [{"path": "row.jsonl"}]},
        "checkpoints": {"every": 1, "keep": 9},
        "optimizer": {"name": "adamw", "lr": 0.02},
        "precision": "fp32",
        **more,
    }
    run = run_recipe(recipe, folder)
    assert run.error is None, run.error
    return run


CLASSES = {
    "task": {"name": "classification", "class_weights": {"ham": 1.0, "spam": 7.0}},
    "data": {"train": [{"path": "mails.jsonl", "format": "labelled"}]},
}


@pytest.mark.parametrize(
    "more",
    [{}, {"freezing": {"name": "top-layers", "n": 1}}, CLASSES],
    ids=["all of it", "some of it", "weighted classes"],
)
def test_figures_are_those_that_the_run_logged(
    more: dict[str, Any], tmp_path: Path, fttool_tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mails = [{"text": f"Buy {n} things" * n, "label": ("spam", "ham")[n % 2]} for n in range(1, 9)]
    write_rows(tmp_path / "mails.jsonl", mails)
    model = fttool_tiny_model
    if "task" in more:
        model = tmp_path / "encoder"
        save_encoder(model)
    run = one_row_at_a_time(tmp_path, model, **more)
    for line in (line for line in run.metrics if "loss" in line):
        found = told(capsys, run.run_dir, "--update", line["step"])
        (row,) = found["rows"]
        assert found["updates"][0]["scored_at"] == line["step"] - 1
        assert row["loss"] == pytest.approx(line["loss"], rel=1e-4)
        assert row["gradient_norm"] / row["items"] == pytest.approx(line["grad_norm"], rel=1e-4)
        assert (row["loss_share"], row["gradient_share"], row["times_median"]) == (1, 1, 1)


@pytest.mark.parametrize("seed", range(5))
def test_spikes_are_found_on_any_falling_curve(seed: int) -> None:
    chance = random.Random(seed)
    planted = set(chance.sample(range(1, 201), 3))
    lines: list[dict[str, Any]] = []
    for step in range(1, 201):
        loss = (1 + 4 * math.exp(-step / 30)) * math.exp(chance.gauss(0, 0.03))
        norm = 2 * math.exp(chance.gauss(0, 0.2))
        lines.append({"step": step, "loss": loss * (1.5 if step in planted else 1), "grad_norm": norm, "epoch": 1})
        lines.append({"step": step, "eval_loss": chance.random() * 100})
    found = [spike for spike in worst(lines, 3) if spike.what == "loss"]
    assert {spike.updates for spike in found} == {range(step, step + 1) for step in planted}
    assert all(spike.distance > 5 for spike in found)
    assert all(spike.value / spike.usual == pytest.approx(1.5, rel=0.15) for spike in found)


def test_a_line_of_several_updates_is_about_all_of_them() -> None:
    losses = {1: 5.0, 10: 4.0, 20: 3.9, 30: 9.0, 40: 3.7, 50: 3.6}
    spike, _ = worst([{"step": step, "loss": loss, "grad_norm": 1.0} for step, loss in losses.items()], 1)
    assert (spike.updates, spike.what, spike.value) == (range(21, 31), "loss", 9.0)
    norms = {1: 1.0, 10: 1.1, 20: "inf", 30: 1.0}
    spike, _ = worst([{"step": step, "loss": 2.0, "grad_norm": norm} for step, norm in norms.items()], 1)
    assert (spike.updates, spike.what, spike.distance) == (range(20, 21), "gradient norm", math.inf)


@pytest.mark.parametrize("values", [[2.0], [0.0, 0.0, 0.0], [math.nan, math.nan], [math.inf], [3.0, 3.0, 3.0, 3.0]])
def test_nothing_stands_out_of_nothing(values: list[float]) -> None:
    assert not [distance for _, distance in distances(values) if math.isfinite(distance) and distance > 0]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory, fttool_tiny_model: Path) -> tuple[Path, list[int]]:
    """A run over rows that all have one answer but for three, and the lines of these."""
    folder = tmp_path_factory.mktemp("why")
    bad = random.Random(11).sample(range(96), 3)
    rows: list[dict[str, Any]] = []
    for number in range(96):
        answer = "zq 7x9 kj #!" if number in bad else "It is so here."
        turns = [{"role": "user", "content": f"row {number}?"}, {"role": "assistant", "content": answer}]
        rows.append({"messages": turns})
    write_rows(folder / "row.jsonl", rows)
    recipe = {
        "recipe": 1,
        "run": {"epochs": 2, "micro_batch": 8, "log_every": 1, "seed": 5},
        "model": {"source": str(fttool_tiny_model)},
        "data": {"train": [{"path": "row.jsonl"}]},
        "optimizer": {"name": "adamw", "lr": 0.02},
        "checkpoints": {"every": 4, "keep": 9},
        "precision": "fp32",
    }
    run = run_recipe(recipe, folder)
    assert run.error is None, run.error
    return run.run_dir, [line + 1 for line in bad]


def test_planted_rows_come_first(planted: tuple[Path, list[int]], capsys: pytest.CaptureFixture[str]) -> None:
    run, bad = planted
    assert main(["why", str(run), "-q"]) == 0
    lines = re.findall(r"^/.*row\.jsonl:(\d+)$", capsys.readouterr().out, re.MULTILINE)
    shown = list(map(int, lines))
    assert len(shown) == len(set(shown)) == 5 and set(bad) <= set(shown), (bad, shown)
    found = told(capsys, run)
    assert [row["times_median"] for row in found["rows"]] == sorted(
        (row["times_median"] for row in found["rows"]), reverse=True
    )
    for update in found["updates"]:
        rows = [row for row in found["rows"] if row["update"] == update["update"]]
        assert len(rows) == update["rows"] == 8
        assert update["scored_at"] == (update["update"] - 1) // 4 * 4
        for share in ("loss_share", "gradient_share"):
            assert sum(row[share] for row in rows) == pytest.approx(1)


def test_rows_are_shown_and_do_nothing_to_a_terminal(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    hostile = "\x1b[2J \u202e\nnext  rm -rf ."
    shares = {"loss_share": 0.5, "norm_share": 0.5, "times": 1.0}
    row = Scored(update=1, row=0, origin=hostile, asked=hostile, said=hostile, items=2, loss=3.0, norm=1.0, **shares)
    looked = Looked(asked=Asked(update=1, spike=None), step=0, rows=[row])
    given = Answer(updates=[looked], rows=[row], notes=[])
    show(*screen(given, 5))
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and "\u202e" not in shown and shown.count("\\x1b[2J \\u202e next rm -rf .") == 2
    assert not [line for line in shown.splitlines() if line.startswith("next  rm")]
    assert as_data(tmp_path, given)["rows"][0]["said"] == hostile


@pytest.fixture
def run(planted: tuple[Path, list[int]], tmp_path: Path) -> Path:
    """A copy of the run, to be spoiled; its rows and its model are where they were."""
    return Path(shutil.copytree(planted[0], tmp_path / "mine"))


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    """Exit code and what is said on one screen; nothing is on stdout."""
    capsys.readouterr()
    code, said = main(["why", *map(str, words)]), capsys.readouterr()
    assert said.out == "" and "Traceback" not in said.err and len(said.err.splitlines()) < 12
    return code, said.err


def emptied(name: str) -> Callable[[Path], None]:
    return lambda run: (run / name).write_text("")


SPOILED: dict[str, tuple[Callable[[Path], Any], list[str], str]] = {
    "no such update": (lambda run: None, ["--update", "25"], "has made 24 updates, not 25"),
    "recipe damaged": (emptied("recipe.resolved.toml"), [], "recipe.resolved.toml' is damaged"),
    "lock damaged": (emptied("lock.json"), [], "lock.json' is missing or damaged"),
    "nothing logged": (emptied("metrics.jsonl"), [], "has no update with a loss"),
    "not a run": (shutil.rmtree, [], "does not exist"),
}


@pytest.mark.parametrize("case", SPOILED)
def test_what_cannot_be_answered_is_refused(case: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil, words, expected = SPOILED[case]
    spoil(run)
    code, said = refused(capsys, run, *words)
    assert code == 2 and expected in said, said


def test_a_run_that_goes_on_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with writer_lock(run):
        code, said = refused(capsys, run)
    assert code == 2 and "is still running" in said


def test_rows_or_a_model_that_have_changed_since_are_refused(
    tmp_path: Path, fttool_tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Path(shutil.copytree(fttool_tiny_model, tmp_path / "model"))
    run = one_row_at_a_time(tmp_path, model).run_dir
    rows, weights = tmp_path / "row.jsonl", model / "model.safetensors"
    rows.write_text((before := rows.read_text()).replace("ha ha", "ho ha", 1))
    code, said = refused(capsys, run)
    assert code == 4 and "the rows of data.train.0 have changed since" in said
    rows.unlink()
    assert refused(capsys, run)[0] == 4
    rows.write_text(before)
    content = bytearray(weights.read_bytes())
    content[-2] ^= 1
    weights.write_bytes(content)
    code, said = refused(capsys, run)
    assert code == 5 and "started from has changed since" in said


def test_without_a_checkpoint_that_can_be_read_the_start_serves_and_it_is_said(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A damaged one is passed over, for the one before it; of none, the start is left."""
    damaged = run / "checkpoints" / "checkpoint-20" / "trained.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-8])
    found = told(capsys, run, "--update", 22)
    assert found["updates"][0]["scored_at"] == 16 and found["updates"][0]["spike"] is None
    assert any("checkpoint-20 is damaged" in note for note in found["notes"])
    assert any("checkpoint-16, 5 updates before it" in note for note in found["notes"])
    shutil.rmtree(run / "checkpoints")
    found = told(capsys, run, "--update", 22)
    assert found["updates"][0]["scored_at"] == 0 and "the start, 21 updates before it" in found["notes"][0]


def test_the_update_at_which_a_run_diverged_is_found_though_it_was_never_logged(
    tmp_path: Path, fttool_tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One row has a token whose embedding is not finite."""
    recipe = recipe_of("accumulated", tmp_path, Path(shutil.copytree(fttool_tiny_model, tmp_path / "model")))
    (token,) = tiny_tokenizer()("%", add_special_tokens=False)["input_ids"]
    tensors = load_file(tmp_path / "model" / "model.safetensors")
    tensors["model.embed_tokens.weight"][token] = math.inf
    save_file(tensors, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    rows = tmp_path / "row.jsonl"
    rows.write_text(rows.read_text().replace("row 2?", "row 2 %?"))
    run = run_recipe(recipe, tmp_path)
    assert run.exit_code == 8, run.error
    (ended,) = [event for event in run.events if event["event"] == "diverged"]
    assert ended["step"] > 1, ended and ended["step"] not in [line["step"] for line in run.metrics]
    found = told(capsys, run.run_dir, "--spikes", 1)
    assert found["updates"][0]["update"] == ended["step"]
    assert [row["row"] for row in found["rows"] if row["times_median"] == "inf"] == [f"{rows}:3"]
    assert found["rows"][0]["row"] == f"{rows}:3"
    assert main(["why", str(run.run_dir), "-q"]) == 0
    assert "its loss is not finite" in capsys.readouterr().out
