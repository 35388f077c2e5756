"""fttool's own rules: each speaks where its fault is and nowhere else; what is counted is what a naive twin counts."""

from __future__ import annotations

import json
import random
import re
import struct
from collections.abc import Callable, Mapping
from fractions import Fraction
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tomli_w import dumps

from fttool.api import Advice, AdviceContext, AdviceRule, Encoded
from fttool.cli import main
from fttool.contracts.advice import ADVICE
from fttool.recipe.reading import load
from fttool.rows.tokens import TokenRows
from fttool.verbs import prepare
from fttool_plugins.advice import lost_updates

ROOT = Path(__file__).parents[3]
RULES = {point.name: point for point in entry_points(group=ADVICE) if point.value.startswith("fttool_plugins.")}
COUNTED = ("cut-rows", "little-learned", "padding")
"""Rules that only count."""


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., Advice | None]:
    """What a rule says of a recipe with these overrides and so many rows, and of a run of it."""
    recipe = {"recipe": 1, "model": {"source": "builtin:tiny-chat"}, "data": {"train": [{"path": "r.jsonl"}]}}
    (tmp_path / "my.toml").write_text(dumps(recipe))

    def call(name: str, *overrides: str, rows: int | None = 100, prepared: Any = None) -> Advice | None:
        rule: AdviceRule = RULES[name].load()
        assert prepared is not None or rule.needs != "run"
        loaded = load(tmp_path / "my.toml", overrides)
        counts = {"train": rows, "eval": 0, "general": 0, "retention": 0}
        return rule.judge(AdviceContext(recipe=loaded.recipe, rows=counts, prepared=prepared))

    return call


GENERAL = 'data.general=[{path="old.jsonl"}]'
PULL = 'regularizers=[{name="l2-init",strength=0.01}]'
AGAIN = "evaluation.metrics=['loss']"
SAID: Mapping[str, list[tuple[bool, tuple[str, ...]]]] = {
    "forgetting": [
        (True, ("optimizer.lr=2e-4",)),
        (True, ("optimizer.lr=1e-3", 'freezing={name="gradual",every=0.2}')),
        (True, ("optimizer.lr=2e-4", GENERAL)),
        (False, ("optimizer.lr=1.9e-4",)),
        (False, ("optimizer.lr=2e-4", GENERAL, 'mixing={name="replay",share=0.1}')),
        (False, ("optimizer.lr=2e-4", PULL)),
        (False, ("optimizer.lr=2e-4", "freezing=lora")),
        (False, ("optimizer.lr=2e-4", "freezing=head-only")),
        (False, ("optimizer.lr=2e-3", "optimizer.name=adafactor")),
        (False, ("optimizer.lr=2e-4", "task=classification")),
    ],
    "no-evaluation": [
        (True, ()),
        (True, ('data.retention=[{path="old.jsonl"}]',)),
        (False, ("data.eval_share=0.1",)),
        (False, ('data.eval=[{path="new.jsonl"}]',)),
    ],
    "long-run": [
        (True, ("run.epochs=6",)),
        (True, ("run.epochs=6", "data.eval_share=0.1", "evaluation.every=5")),
        (False, ("run.epochs=5",)),
        (False, ("run.max_steps=10000",)),
        (False, ("run.epochs=9", "data.eval_share=0.1", "evaluation.every=5", "evaluation.early_stopping=2", AGAIN)),
        (False, ("run.epochs=9", "data.eval_share=0.1", "evaluation.every=5", "evaluation.best=loss", AGAIN)),
    ],
    "small-update": [
        (True, ()),
        (True, ("run.micro_batch=3",)),
        (True, ("run.micro_batch=1", "run.global_batch=2")),
        (False, ("run.micro_batch=4",)),
        (False, ("run.micro_batch=1", "run.global_batch=8")),
        (False, ("batching=packed",)),
    ],
    "large-update": [
        (True, ("run.global_batch=257",)),
        (True, ("run.global_batch=300", "run.max_steps=99")),
        (True, ("run.global_batch=300", "run.epochs=99")),
        (False, ("run.global_batch=256",)),
        (False, ("run.global_batch=300", "run.epochs=100")),
        (False, ("run.global_batch=300", "run.max_steps=100")),
    ],
}


@pytest.mark.parametrize(
    ("name", "speaks", "overrides"), [(name, *case) for name, cases in SAID.items() for case in cases]
)
def test_a_rule_speaks_where_its_fault_is(
    name: str, speaks: bool, overrides: tuple[str, ...], ask: Callable[..., Advice | None]
) -> None:
    assert (ask(name, *overrides) is not None) == speaks


def test_many_rows_are_not_few(ask: Callable[..., Advice | None]) -> None:
    assert ask("forgetting", "optimizer.lr=2e-4", rows=999) and not ask("forgetting", "optimizer.lr=2e-4", rows=1_000)
    # 30,000 rows in updates of 300 are a hundred of them
    assert ask("large-update", "run.global_batch=300", rows=29_700)
    assert not ask("large-update", "run.global_batch=300", rows=29_701)


@pytest.mark.parametrize(("updates", "speaks"), [(1, True), (9, True), (10, False)])
def test_few_updates(updates: int, speaks: bool, ask: Callable[..., Advice | None]) -> None:
    length, factors = SimpleNamespace(total_steps=updates), [0.0, 0.09, 0.1, *[1.0] * 20]
    run = SimpleNamespace(length=length, update=SimpleNamespace(factor=factors.__getitem__))
    said = ask("few-updates", "run.global_batch=8", prepared=run)
    assert (said is not None) == speaks
    assert said is None or said.figures == {"updates": updates, "below_a_tenth": min(updates, 2)}
    assert ask("few-updates", "run.global_batch=300", prepared=run) is None  # of these `large-update` speaks
    large = ask("large-update", "run.global_batch=300", prepared=run)
    assert large is not None and large.figures["updates"] == updates


# -- what is counted ---------------------------------------------------------------------------------------------------


def rows_of(lengths: list[tuple[int, int, int]]) -> tuple[TokenRows, list[tuple[int, int, int]]]:
    """Rows of so many tokens, of which so many are learned, after so many more were cut off."""
    train = TokenRows()
    for length, learned, cut in lengths:
        train.append(Encoded([1] * length, [-100] * (length - learned) + [1] * learned), "a:1", cut=cut)
    return train, lengths


def run_of(train: TokenRows) -> Any:
    return SimpleNamespace(rows=SimpleNamespace(train=train))


@pytest.mark.parametrize("seed", range(5))
def test_cut_and_learned_tokens_are_those_of_a_naive_count(seed: int, ask: Callable[..., Advice | None]) -> None:
    draw = random.Random(seed)
    lengths = [(draw.randint(2, 40), 0, 0) for _ in range(30)] + [(40, draw.randint(0, 40), draw.randint(1, 99))] * 5
    train, rows = rows_of([(length, learned or draw.randint(0, 2), cut) for length, learned, cut in lengths])
    tokens, learned, cut = (sum(row[place] for row in rows) for place in range(3))
    said = ask("cut-rows", "batching.max_length=40", prepared=run_of(train))
    assert said is not None and said.key == ("batching", "max_length")
    enough = said.figures["enough"]
    assert said.figures == {
        "tokens": tokens + cut,
        "cut_tokens": cut,
        "rows": 35,
        "cut_rows": sum(row[2] > 0 for row in rows),
        "enough": enough,
    }
    whole = [length + less <= enough for length, _, less in rows]
    assert sum(whole) >= 0.99 * len(whole) and enough in [length + less for length, _, less in rows]
    proposed = int(re.findall(r"max_length = (\d+)", said.remedy)[0])
    assert proposed % 64 == 0 and enough <= proposed < enough + 64
    few = ask("little-learned", prepared=run_of(train))
    assert (few is not None) == (learned < 0.05 * tokens)
    assert few is None or few.figures == {"tokens": tokens, "learned": learned}


def test_at_the_edge(ask: Callable[..., Advice | None]) -> None:
    for cut, speaks in ((1, True), (0, False)):
        train, _ = rows_of([(99, 5, cut)])
        assert (ask("cut-rows", prepared=run_of(train)) is not None) == speaks
    train, _ = rows_of([(9_901, 99, 99)])  # 0.99%
    assert ask("cut-rows", prepared=run_of(train)) is None
    for learned, speaks in ((4, True), (5, False)):
        train, _ = rows_of([(100, learned, 0)])
        assert (ask("little-learned", prepared=run_of(train)) is not None) == speaks
    assert ask("little-learned", "task=classification", prepared=run_of(rows_of([(100, 0, 0)])[0])) is None


@pytest.fixture(scope="module")
def tiny(fttool_tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """A run of the tiny model just before its first update, with these overrides; rows of very different lengths."""
    folder = tmp_path_factory.mktemp("advice")
    draw = random.Random(3)
    rows = [{"text": "a" * draw.choice([3, 5, 90])} for _ in range(40)]
    (folder / "rows.jsonl").write_text("".join(f'{{"text": "{row["text"]}"}}\n' for row in rows))
    recipe = {
        "recipe": 1,
        "run": {"micro_batch": 4},
        "model": {"source": str(fttool_tiny_model)},
        "data": {"train": [{"path": "rows.jsonl", "format": "text"}]},
        "masking": "all",
    }
    (folder / "my.toml").write_text(dumps(recipe))
    return lambda *overrides: prepare(load(folder / "my.toml", overrides), folder, quiet=True)


def test_padding_is_that_of_the_micro_batches_themselves(tiny: Callable[..., Any]) -> None:
    rule: AdviceRule = RULES["padding"].load()
    for batching, speaks in (("padded", True), ("bucketed", False)):
        run = tiny(f"batching={batching}")
        batches = list(run.batching.loader)
        slots = sum(batch["input_ids"].numel() for batch in batches)
        empty = slots - sum(int(batch["attention_mask"].sum()) for batch in batches)
        said = rule.judge(AdviceContext(recipe=run.loaded.recipe, rows={}, prepared=run))
        assert (said is not None) == speaks == (empty >= 0.25 * slots)
        if said is not None:
            assert said.figures == {"slots": slots, "padding": empty} and "bucketed" in said.remedy


def bfloat16(bits: int) -> Fraction:
    """The exact value of a bfloat16 with these 16 bits."""
    return Fraction(struct.unpack("<f", struct.pack("<I", bits << 16))[0])


def rounds_to(value: Fraction, bits: int) -> bool:
    """Whether a number rounds to the positive bfloat16 with these bits, to the even one where it is in the middle."""
    low, here, high = bfloat16(bits - 1), bfloat16(bits), bfloat16(bits + 1)
    down, up = (low + here) / 2, (here + high) / 2
    return down <= value <= up if bits % 2 == 0 else down < value < up


@pytest.mark.parametrize("rate", [2.0**-12, 1e-4, 3e-3])
def test_lost_updates_are_those_of_exact_arithmetic(rate: float) -> None:
    draw = random.Random(int(rate * 1e6))
    # Of all sizes around the rate's, from 2⁻¹⁷ to 2⁵, and the powers of two, where a unit changes its size.
    bits = [draw.randint(110 << 7, 132 << 7) for _ in range(300)] + [exponent << 7 for exponent in range(110, 133)]
    weights = torch.tensor(bits, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    step = Fraction(rate)
    expected = sum(rounds_to(bfloat16(one) + step, one) and rounds_to(bfloat16(one) - step, one) for one in bits)
    assert 0 < expected < len(bits)
    assert lost_updates.lost(weights, rate) == expected == lost_updates.lost(-weights, rate)


def test_what_is_called_lost_is_what_adamw_leaves(tiny: Callable[..., Any]) -> None:
    """An update of AdamW itself, by gradients of either sign."""
    torch.manual_seed(0)
    weights = torch.nn.Parameter((0.02 * torch.randn(4_000)).bfloat16())
    before, rate = weights.detach().clone(), 5e-5
    optimizer = torch.optim.AdamW([weights], lr=rate, weight_decay=0.0)
    weights.grad = torch.randn(4_000).sign().bfloat16()
    optimizer.step()
    same = int(weights.detach().eq(before).sum())
    foretold = lost_updates.lost(before, rate)
    # What one sign moves and the other does not is not called lost: weights at a power of two.
    assert 1_000 < foretold <= same <= foretold + 100


def test_lost_updates_looks_at_the_weights_that_train(tiny: Callable[..., Any]) -> None:
    rule: AdviceRule = RULES["lost-updates"].load()
    half = 'precision={name="bf16",weights="bfloat16"}'
    for overrides, speaks in (
        ((half, "optimizer.lr=1e-6"), True),
        ((half, "optimizer.lr=1e-2"), False),
        ((half, "optimizer.lr=1e-6", "optimizer.name=sgd"), False),
        (("precision=bf16", "optimizer.lr=1e-6"), False),
    ):
        run = tiny(*overrides)
        said = rule.judge(AdviceContext(recipe=run.loaded.recipe, rows={}, prepared=run))
        assert (said is not None) == speaks, overrides
        if said is not None:
            trained = sum(parameter.numel() for parameter in run.model.parameters())
            assert said.figures["weights"] == trained and 0.25 * trained <= said.figures["lost"] < trained


# -- docs and recipes --------------------------------------------------------------------------------------------------


def test_the_page_has_a_section_for_each_rule_with_its_figures() -> None:
    page = (ROOT / "docs" / "advice.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## `([a-z-]+)`\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    assert sorted(sections) == sorted(RULES)
    for name, point in RULES.items():
        module = __import__(point.module, fromlist=["STUDY"])
        study = getattr(module, "STUDY", "")
        assert bool(study) == (name not in COUNTED)
        for figure in re.findall(r"\d\.\d\d", study):
            assert figure in sections[name], f"{name}: {figure} is not on the page"
        assert f"docs/advice.md#{name}" in Path(module.__file__).read_text(encoding="utf-8").replace(
            "{DOCS}", "docs/advice.md"
        )


RECIPES = sorted((ROOT / "recipes").glob("*.toml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda file: file.stem)
def test_no_recipe_of_ours_needs_advice(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is left of it is ignored in the recipe, with the reason beside it."""
    rows = [] if (recipe.parent / "data").is_dir() and rows_are_there(recipe) else ["--no-rows"]
    assert main(["validate", str(recipe), "--advise", "--json", *rows]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(one["id"], one["happens"]) for one in told["advice"]] == []
    ignored = re.findall(r"^\[advice\]\nignore = \[.*\] *(#.*)?$", recipe.read_text(), re.MULTILINE)
    assert bool(told["ignored"]) == bool(ignored) and all(ignored)


def rows_are_there(recipe: Path) -> bool:
    """Whether all files that a recipe names came with it."""
    loaded = load(recipe)
    return all((loaded.folder / path).exists() for _, table in loaded.recipe.data.datasets() for path in table.paths)
