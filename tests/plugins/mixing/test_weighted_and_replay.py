"""`weighted` and `replay` from recipe to update: what is refused, what is met, and what batching leaves of shares."""

import json
import shutil
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from tomli_w import dumps

from fttool.api import BatchingContext, DataError, Mixing, MixingContext, RecipeError
from fttool.cli import main
from fttool.recipe.reading import load
from fttool.testing import run_recipe
from fttool_plugins.batching.bucketed import Bucketed
from fttool_plugins.batching.padded import Padded
from fttool_plugins.mixing.replay import Replay
from fttool_plugins.mixing.weighted import Weighted

from ...rows import write_talks
from ...runs import assert_same_weights


def context(sizes: Sequence[int], lengths: Sequence[int], general: Sequence[int] = ()) -> MixingContext:
    ends = list(accumulate(sizes))
    tokens = [sum(lengths[end - size : end]) for size, end in zip(sizes, ends, strict=True)]
    names = [f"d{index}" for index in range(len(sizes))]
    lengths = lengths[: sum(sizes) + sum(general)]
    return MixingContext(sizes=sizes, tokens=tokens, seed=5, names=names, general_sizes=general, lengths=lengths)


LENGTHS = [5 + (37 * row) % 90 for row in range(2000)]
CASES: list[tuple[Mixing, MixingContext]] = [
    (Weighted(shares={"d0": 0.9, "d1": 0.1}), context((60, 140), LENGTHS)),
    (Weighted(shares={"d1": 0.5, "d2": 0.3, "d0": 0.2}), context((30, 30, 200), LENGTHS)),
    (Weighted(shares={"d0": 0.75, "d1": 0.25}, by="tokens"), context((100, 100), LENGTHS)),
    (Replay(share=0.05), context((150, 90), LENGTHS, (40, 10))),
    (Replay(share=0.25), context((11,), LENGTHS, (300,))),
    (Replay(share=0.1, by="tokens"), context((200,), LENGTHS, (100,))),
]


def strayed(mixing: Mixing, ctx: MixingContext, rows: Sequence[int]) -> list[float]:
    """The largest deviation of any dataset from its share after each row, in rows or in longest rows."""
    if isinstance(mixing, Replay):
        ends, shares = [sum(ctx.sizes), len(ctx.lengths)], [1 - mixing.share, mixing.share]
    else:
        assert isinstance(mixing, Weighted)
        ends, shares = list(accumulate(ctx.sizes)), [mixing.shares[name] for name in ctx.names]
    unit = max(ctx.lengths) if mixing.by == "tokens" else 1
    met, found = [0.0] * len(ends), [0.0]
    for row in rows:
        met[bisect_right(ends, row)] += ctx.lengths[row] if mixing.by == "tokens" else 1
        found.append(max(abs(one - share * sum(met)) / unit for one, share in zip(met, shares, strict=True)))
    return found


@pytest.mark.parametrize(("mixing", "ctx"), CASES)
def test_the_share_holds_all_through_the_run(mixing: Mixing, ctx: MixingContext) -> None:
    order = mixing.build(ctx)
    rows = [row for epoch in range(5) for row in order(epoch)]
    assert max(strayed(mixing, ctx, rows)) <= 1 + 1e-9


@pytest.mark.parametrize(("mixing", "ctx"), CASES)
@pytest.mark.parametrize("batching", [Padded(), Bucketed(pool=1), Bucketed(pool=3), Bucketed()])
def test_after_batching_it_holds_at_the_end_of_each_update_or_pool(
    mixing: Mixing, ctx: MixingContext, batching: Padded | Bucketed
) -> None:
    batches = batching.build(BatchingContext(lengths=ctx.lengths, micro_batch=2, global_batch=8, pad_id=0, seed=5))
    updates_per_pool = batching.pool if isinstance(batching, Bucketed) else 1
    order = mixing.build(ctx)
    met: list[int] = []
    ends: list[int] = []
    for epoch in range(4):
        rows = [row for micro in batches.plan(order(epoch), epoch) for group in micro for row in group]
        begin, full = len(met), len(rows) - len(rows) % 8
        met += rows
        ends += [begin + end for end in [*range(0, full, 8 * updates_per_pool), full, len(rows)]]
        assert Counter(rows) == Counter(order(epoch))
    at = strayed(mixing, ctx, met)
    assert max(at[end] for end in ends) <= 1 + 1e-9
    if isinstance(batching, Bucketed) and batching.pool > 1:
        assert max(at) > 1, "within a pool it does not hold, or this test would show nothing"


def test_an_epoch_of_weighted_is_as_long_as_concatenating() -> None:
    for by in ("rows", "tokens"):
        order = Weighted(shares={"d0": 0.9, "d1": 0.1}, by=by).build(context((60, 140), LENGTHS))
        assert [len(order(epoch)) for epoch in range(3)] == [200] * 3


@pytest.mark.parametrize(
    ("share", "trained", "length"), [(0.05, 190, 200), (0.25, 90, 120), (0.5, 10, 20), (0.1, 4, 4)]
)
def test_an_epoch_of_replay_is_a_pass_over_the_training_rows(share: float, trained: int, length: int) -> None:
    order = Replay(share=share).build(context((trained,), LENGTHS, (50,)))
    epochs = [list(order(epoch)) for epoch in range(6)]
    assert {len(rows) for rows in epochs} == {length}
    if length % (1 / share) == 0:  # a whole number of general rows goes with a pass
        assert all(sorted(row for row in rows if row < trained) == list(range(trained)) for rows in epochs)


def test_an_epoch_of_replay_by_tokens_is_about_a_pass() -> None:
    order = Replay(share=0.2, by="tokens").build(context((300,), LENGTHS, (80,)))
    for epoch in range(5):
        assert abs(sum(row < 300 for row in order(epoch)) - 300) < 10


def test_a_dataset_without_rows_is_refused() -> None:
    with pytest.raises(DataError, match="no row of the training dataset 'd1' is left"):
        Weighted(shares={"d0": 0.5, "d1": 0.5}).build(context((5, 0), LENGTHS))


# -- in a recipe ---------------------------------------------------------------------------------------------------


def write(path: Path, name: str, count: int) -> str:
    return str(write_talks(path, count, name))


@pytest.fixture
def recipe(fttool_recipe: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    fttool_recipe["run"] = {"max_steps": 9, "micro_batch": 2, "global_batch": 4, "log_every": 1, "seed": 3}
    fttool_recipe["data"] = {
        "train": [{"path": write(tmp_path / "qa.jsonl", "Q", 6)}, {"path": write(tmp_path / "code.jsonl", "C", 14)}],
        "general": [{"path": write(tmp_path / "books.jsonl", "B", 7)}],
    }
    fttool_recipe["batching"] = {"name": "bucketed", "pool": 2, "max_length": 200}
    return fttool_recipe


WEIGHTED = {"name": "weighted", "shares": {"qa": 0.75, "code": 0.25}}
REPLAY = {"name": "replay", "share": 0.25}


@pytest.mark.parametrize(
    ("mixing", "sentences"),
    [
        ({"shares": {"qa": 0.5, "cod": 0.5}}, ["names 'cod', which is no", "did you mean 'code'?", "'code' no share"]),
        ({"shares": {"qa": 1.0}}, ["gives the training dataset 'code' no share"]),
        ({"shares": {"qa": 0.5, "code": 0.6}}, ["add up to 1.1, not to 1"]),
        ({"shares": {"qa": 1.0, "code": 0.0}}, ["mixing.shares.code", "greater than 0"]),
        ({"shares": {"qa": 1.5, "code": -0.5}}, ["mixing.shares.qa", "mixing.shares.code"]),
        ({"shares": {}}, ["mixing.shares"]),
        ({}, ["'mixing.shares' is missing"]),
        ({"shares": {"books": 0.5, "qa": 0.25, "code": 0.25}}, ["names 'books', which is not a training dataset"]),
    ],
)
def test_shares_that_cannot_be_are_refused(
    tmp_path: Path, recipe: dict[str, Any], mixing: dict[str, Any], sentences: list[str]
) -> None:
    recipe["mixing"] = {"name": "weighted", **mixing}
    (tmp_path / "recipe.toml").write_text(dumps(recipe))
    with pytest.raises(RecipeError) as refused:
        load(tmp_path / "recipe.toml")
    for sentence in sentences:
        assert sentence in str(refused.value)


def test_replay_of_nothing_is_refused(tmp_path: Path, recipe: dict[str, Any]) -> None:
    recipe["mixing"] = "replay"
    del recipe["data"]["general"]
    refused = run_recipe(recipe, tmp_path)
    assert refused.exit_code == 3 and "no general rows to replay" in str(refused.error)


@pytest.mark.parametrize("mixing", [WEIGHTED, REPLAY])
def test_packing_is_refused(tmp_path: Path, recipe: dict[str, Any], mixing: dict[str, Any]) -> None:
    recipe["mixing"], recipe["batching"] = mixing, "packed"
    refused = run_recipe(recipe, tmp_path)
    assert refused.exit_code == 3 and "'packed' needs the same rows in every epoch" in str(refused.error)


@pytest.mark.parametrize("mixing", [WEIGHTED, {**REPLAY, "by": "tokens"}])
def test_a_resumed_run_is_bitwise_equal(tmp_path: Path, recipe: dict[str, Any], mixing: dict[str, Any]) -> None:
    """From the first epoch, and from the second, whose order the resumed run has not walked through."""
    recipe["mixing"], recipe["checkpoints"] = mixing, {"every": 2, "keep": 9}
    whole = run_recipe(recipe, tmp_path)
    assert whole.error is None and whole.summary["epochs"] > 1
    for step in (2, 8):
        moved = tmp_path / f"resumed-{step}"
        shutil.copytree(whole.run_dir, moved / "runs" / "recipe")
        for path in (moved / "runs" / "recipe" / "checkpoints").iterdir():
            if int(path.name.removeprefix("checkpoint-")) > step:
                shutil.rmtree(path)
        resumed = run_recipe(recipe, moved, resume=True)
        assert resumed.error is None
        assert_same_weights(whole, resumed)
        assert resumed.summary["datasets"] == whole.summary["datasets"]
        numbers = [[line["loss"] for line in run.metrics if "loss" in line] for run in (whole, resumed)]
        assert numbers[0] == numbers[1]


def test_what_was_met_is_counted(tmp_path: Path, recipe: dict[str, Any]) -> None:
    recipe["mixing"] = WEIGHTED
    weighted = run_recipe(recipe, tmp_path).summary["datasets"]
    assert weighted["train"]["qa"]["seen_rows"] == 27 and weighted["train"]["code"]["seen_rows"] == 9
    assert weighted["general"]["books"]["seen_rows"] == 0
    recipe["mixing"] = REPLAY
    run = run_recipe(recipe, tmp_path, overrides=["run.name=replayed", "run.max_steps=14"])  # two epochs of 27 rows
    replayed = run.summary["datasets"]
    trained = replayed["train"]["qa"], replayed["train"]["code"]
    assert sum(one["seen_rows"] for one in trained) + replayed["general"]["books"]["seen_rows"] == 54
    assert replayed["general"]["books"]["seen_rows"] in (13, 14)
    seen_tokens = sum(one["seen_tokens"] for one in (*trained, replayed["general"]["books"]))
    assert seen_tokens == run.summary["train_tokens"]


def test_general_rows_are_really_learned(tmp_path: Path, recipe: dict[str, Any]) -> None:
    recipe["run"] = {"epochs": 6, "micro_batch": 4}
    recipe["optimizer"] = {"name": "adamw", "lr": 1e-2}
    recipe["data"]["train"], recipe["data"]["retention"] = (
        recipe["data"]["train"][:1],
        [{"path": write(tmp_path / "more.jsonl", "B", 14), "name": "books"}],
    )
    lines = (tmp_path / "more.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "more.jsonl").write_text("".join(lines[7:]))
    kept = run_recipe({**recipe, "mixing": {"name": "replay", "share": 0.5}}, tmp_path).summary["retention"]
    lost = run_recipe(recipe, tmp_path, overrides=["run.name=without"]).summary["retention"]
    assert kept["after"]["books"]["loss"] < lost["after"]["books"]["loss"] < lost["before"]["books"]["loss"]


def test_a_dry_run_shows_what_an_epoch_meets(
    tmp_path: Path, recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe["mixing"] = REPLAY
    (tmp_path / "recipe.toml").write_text(dumps(recipe))
    words = ["run", str(tmp_path / "recipe.toml"), "--dry-run"]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["summary"]["epoch"]
    assert [met["table"] + " " + met["dataset"] for met in found] == ["train qa", "train code", "general books"]
    assert [met["rows"] for met in found] == [6, 14, 7] and [met["passes"] for met in found] == [1, 1, 1]
    assert sum(met["share_of_tokens"] for met in found) == pytest.approx(1)
    assert main(words) == 0
    shown = capsys.readouterr().out
    (line,) = [line for line in shown.splitlines() if line.startswith("books (general)")]
    assert line.split()[2:4] == ["7", "25.9%"]
