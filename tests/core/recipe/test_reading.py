"""A recipe is valid, or all of its problems are reported at once, each with its place."""

from pathlib import Path
from typing import Any

import pytest
import tomli

from fttool.contracts import FAMILIES
from fttool.contracts.model import ModelSource
from fttool.contracts.strategy import Strategy
from fttool.errors import FttoolError, PluginError, RecipeError
from fttool.plugins import Plugins
from fttool.recipe.loaded import Loaded
from fttool.recipe.reading import load
from fttool.rundir.record import resolved

GOOD = """\
recipe = 1

[model]
source = "builtin:tiny-chat"

[[data.train]]
path = "rows.jsonl"
"""


def read(tmp_path: Path, text: str, *overrides: str) -> Loaded:
    path = tmp_path / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return load(path, overrides)


def problems(tmp_path: Path, text: str, *overrides: str) -> list[str]:
    with pytest.raises(FttoolError) as caught:
        read(tmp_path, text, *overrides)
    return [str(problem).replace(f"{tmp_path}/", "") for problem in caught.value.problems]


def test_a_recipe_of_five_lines_is_whole(tmp_path: Path) -> None:
    loaded = read(tmp_path, GOOD)
    recipe = loaded.recipe
    assert loaded.name == "recipe"
    assert recipe.model.source.id() == "builtin"
    chosen = {".".join(map(str, place)): strategy.id() for place, strategy in recipe.strategies()}
    assert chosen == {
        "model.source": "builtin",
        "data.train.0.reader": "auto",
        "data.train.0.format": "messages",
        "evaluation.metrics.0": "loss",
        "task": "sft",
        "mixing": "concatenate",
        "masking": "assistant",
        "batching": "bucketed",
        "freezing": "full",
        "layer_rates": "uniform",
        "optimizer": "adamw",
        "schedule": "cosine",
        "precision": "auto",
        "sharding": "none",
    }


def test_a_string_stands_for_a_strategy(tmp_path: Path) -> None:
    text = GOOD.replace("[model]", 'schedule = "wsd"\nfreezing = "head-only"\n[model]')
    recipe = read(tmp_path, text).recipe
    assert (recipe.schedule.id(), recipe.freezing.id()) == ("wsd", "head-only")


def test_the_resolved_recipe_reads_back_to_itself(tmp_path: Path) -> None:
    text = resolved(read(tmp_path, GOOD, "regularizers=[{name='l2-init',strength=0.5}]", "run.seed=3"))
    again = read(tmp_path, text)
    assert resolved(again) == text
    (regularizer,) = tomli.loads(text)["regularizers"]
    assert (regularizer["name"], regularizer["strength"], regularizer["decoupled"]) == ("l2-init", 0.5, False)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "[model]",
            "[modle]",
            ["recipe.toml:3:2: unknown key 'modle'\n    did you mean 'model'?", "'model' is missing"],
        ),
        ("path =", "pth =", ["recipe.toml:7:1: unknown key 'data.train.0.pth'\n    did you mean 'path'?"]),
        ("recipe = 1", "recipe = 2", ["recipe.toml:1:1: this recipe has format 2"]),
        ("recipe = 1", "recipe = 0", ["recipe.toml:1:1: recipe: input should be 1"]),
        ("recipe = 1", "", ["'recipe' is missing"]),
        (
            "recipe = 1",
            'recipe = 1\nschedule = "cosin"',
            ["recipe.toml:2:1: unknown strategy 'cosin' for schedule"],
        ),
        ("recipe = 1", "recipe = 1\nfilters = [{ min = 1 }]", ["'filters.0' does not say which strategy"]),
        (
            "recipe = 1",
            'recipe = 1\nschedule = { name = "constant", decay = 0.1 }',
            ["recipe.toml:2:33: unknown key 'schedule.decay'"],
        ),
        ("[model]", "[optimizer]\nname = 'adamw'\nlr = -1\n[model]", ["recipe.toml:5:1: optimizer.lr: "]),
        ("[model]", "[optimizer]\nname = 'adamw'\nlr = 1e9\n[model]", ["recipe.toml:5:1: optimizer.lr: "]),
        ("[model]", "[optimizer]\nname = 'adamw'\nlr = nan\n[model]", ["recipe.toml:5:1: optimizer.lr: "]),
        ("[model]", "[run]\nmicro_batch = 0\n[model]", ["recipe.toml:4:1: run.micro_batch: "]),
        ("[model]", "[run]\nmicro_batch = 'two'\n[model]", ["recipe.toml:4:1: run.micro_batch: "]),
        ("[model]", "[run]\nname = '../elsewhere'\n[model]", ["recipe.toml:4:1: run.name: "]),
        (
            "[model]",
            "[run]\nepochs = 1\nmax_steps = 5\n[model]",
            ["recipe.toml:5:1: both run.epochs and run.max_steps"],
        ),
        (
            "[model]",
            "[run]\nmicro_batch = 3\nglobal_batch = 8\n[model]",
            ["recipe.toml:5:1: global_batch 8 is not a multiple"],
        ),
        (
            "[model]",
            "[evaluation]\nevery = 5\n[model]",
            ["recipe.toml:4:1: evaluation.every is set, but there are no"],
        ),
        (
            "[model]",
            "[evaluation]\nbest = 'lss'\n[model]",
            ["evaluation.best is set", "'lss' is not a metric of this run"],
        ),
        (
            "[model]",
            "[evaluation]\nevery = 5\nbest = 'loss'\n[[data.retention]]\npath = 'kept.jsonl'\n[model]",
            ["recipe.toml:5:1: evaluation.best is set, but there are no evaluation rows"],
        ),
        (
            "[model]",
            "[[data.general]]\npath = 'a/books.jsonl'\n[[data.general]]\npath = 'books.jsonl.gz'\n[model]",
            ["recipe.toml:5:8: two datasets of data.general are called 'books'"],
        ),
        (
            "[model]",
            "[[data.retention]]\npath = 'books.jsonl'\nname = 'my books'\n[model]",
            ["recipe.toml:5:1: data.retention.0.name: "],
        ),
        ("builtin:tiny-chat", "builtin:tiny-chatt", ["recipe.toml:4:1: model.source"]),
        (
            "builtin:tiny-chat",
            "bultin:tiny-chat",
            ["recipe.toml:4:1: unknown strategy 'bultin' for model.source"],
        ),
        ('path = "rows.jsonl"', "", ["recipe.toml:6:8: data.train needs one of path and hub"]),
        (
            'path = "rows.jsonl"',
            'path = "rows.jsonl"\nformat = "chat"',
            ["recipe.toml:8:1: unknown strategy 'chat'"],
        ),
        (
            "[model]",
            '[freezing]\nname = "gradual"\nevery = "epochs"\n[model]',
            ["recipe.toml:5:1: freezing.every: input should be 'epoch', or a valid number, "],
        ),
        (
            "[model]",
            '[freezing]\nname = "gradual"\nevery = 0\n[model]',
            ["recipe.toml:5:1: freezing.every: input should be 'epoch', or greater than 0, got 0"],
        ),
        (
            "recipe = 1",
            'recipe = 1\nfreezing = "top-layers"',
            ["recipe.toml:2:1: 'freezing.n' is missing"],
        ),
        ("tiny-chat", "tiny-chat'", ["recipe.toml:4:1: model.source"]),
        (
            'source = "b',
            'chat_template = "hf_abcdefghijklmnopqrstuvwx"\nsource = "b',
            ["recipe.toml:4:1: 'model.chat_template' looks"],
        ),
        ("recipe = 1", "recipe = 1\n[", ["recipe.toml:2:"]),
        ("recipe = 1", "recipe = 1\nrecipe = 1", ["recipe.toml:2:"]),
    ],
)
def test_each_problem_says_where_and_what_next(tmp_path: Path, old: str, new: str, expected: list[str]) -> None:
    found = problems(tmp_path, GOOD.replace(old, new))
    for sentence in expected:
        assert any(sentence in problem for problem in found), found


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("[model]", "[run]\nsed = 1\nmicro_batch = 0\n[optimizer]\nname = 'adam'\n[model]\nfoo = 1")
    found = problems(tmp_path, text)
    assert len(found) == 4


def test_a_missing_plugin_is_named_with_its_place(tmp_path: Path) -> None:
    text = GOOD.replace("recipe = 1", 'recipe = 1\nschedule = "nobody.ramp"')
    with pytest.raises(PluginError) as caught:
        read(tmp_path, text)
    (problem,) = caught.value.problems
    assert problem.where == f"{tmp_path / 'recipe.toml'}:2:1"
    assert "'nobody'" in problem.message and "nobody." in problem.hint


# -- overrides ---------------------------------------------------------------------------------------------------


def test_an_override_is_a_toml_value_or_a_plain_string(tmp_path: Path) -> None:
    recipe = read(tmp_path, GOOD, "run.seed=5", "run.name=mine", "optimizer={name='sgd',lr=0.5}").recipe
    assert (recipe.run.seed, recipe.run.name, recipe.optimizer.id(), recipe.optimizer.lr) == (
        5,
        "mine",
        "sgd",
        0.5,
    )


def test_another_name_resets_the_table_and_says_so(tmp_path: Path) -> None:
    text = GOOD + '[schedule]\nname = "cosine"\nwarmup = 0.2\n'
    loaded = read(tmp_path, text, "schedule.name=wsd", "schedule.decay=0.3")
    schedule = loaded.recipe.schedule.model_dump()
    assert (schedule["name"], schedule["decay"]) == ("wsd", 0.3)
    assert schedule["warmup"] != 0.2
    assert loaded.dropped == ("--set schedule.name=wsd resets [schedule]; dropped: warmup = 0.2",)


def test_the_same_name_keeps_the_table(tmp_path: Path) -> None:
    loaded = read(tmp_path, GOOD + '[schedule]\nname = "cosine"\nwarmup = 0.2\n', "schedule.name=cosine")
    assert loaded.recipe.schedule.model_dump()["warmup"] == 0.2
    assert loaded.dropped == ()


@pytest.mark.parametrize("written", ["epochs = 3", "max_steps = 9"])
def test_one_length_takes_the_place_of_the_other(tmp_path: Path, written: str) -> None:
    text = GOOD.replace("[model]", f"[run]\n{written}\n[model]")
    loaded = read(tmp_path, text, "run.max_steps=50")
    assert (loaded.recipe.run.max_steps, loaded.recipe.run.epochs) == (50, None)
    replaced = ("--set run.max_steps=50 takes the place of run.epochs; dropped: epochs = 3",)
    assert loaded.dropped == (replaced if "epochs" in written else ())


def test_an_override_reaches_into_a_source_written_as_text(tmp_path: Path) -> None:
    recipe = read(tmp_path, GOOD, "model.source.path=tiny-chat").recipe
    assert recipe.model.source.model_dump() == {"name": "builtin", "path": "tiny-chat"}


NAMELESS = {"optimizer.lr": "5e-4", "schedule.warmup": "3", "batching.max_length": "64"}


@pytest.mark.parametrize("by_override", [False, True])
def test_a_table_without_a_name_is_the_default_strategys(tmp_path: Path, by_override: bool) -> None:
    lines = [f"{key} = {value}" for key, value in NAMELESS.items()]
    text = GOOD if by_override else GOOD.replace("[model]", "\n".join([*lines, "[model]"]))
    recipe = read(tmp_path, text, *(lines if by_override else [])).recipe
    assert (recipe.optimizer.id(), recipe.optimizer.lr) == ("adamw", 5e-4)
    assert (recipe.schedule.id(), recipe.batching.id(), recipe.batching.max_length) == ("cosine", "bucketed", 64)


def test_a_table_without_a_name_is_the_tasks_default_where_it_has_one(tmp_path: Path) -> None:
    text = GOOD.replace("[model]", 'task = "classification"\n[model]') + 'format = {label = "kind"}\n'
    form = read(tmp_path, text).recipe.data.train[0].format
    assert form.model_dump() | {"name": "labelled", "label": "kind"} == form.model_dump()


def test_in_a_list_a_table_needs_its_name(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, GOOD + "[[filters]]\nmin = 2\n")
    assert "'filters.0' does not say which strategy" in found


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
@pytest.mark.parametrize("as_table", [True, False])
def test_a_wrong_id_of_any_family_is_answered_with_those_that_exist(
    tmp_path: Path, family: type[Strategy], as_table: bool
) -> None:
    key = family.place.table.replace("*", "train.0")
    wrong = "nonsens:x" if family is ModelSource and not as_table else "nonsens"
    value = f'{{name="{wrong}",path="x"}}' if as_table else f'"{wrong}"'
    (found,) = problems(tmp_path, GOOD, f"{key}=[{value}]" if family.place.many else f"{key}={value}")
    known = [strategy.id() for strategy in Plugins.discover().family(family.family)]
    assert "unknown strategy 'nonsens'" in found and any(one in found for one in known), found


def test_an_override_reaches_into_lists(tmp_path: Path) -> None:
    text = GOOD + '[[filters]]\nname = "words"\nmin = 2\n'
    recipe = read(tmp_path, text, "filters.0.min=7", "data.train.0.limit=3").recipe
    assert recipe.filters[0].model_dump()["min"] == 7
    assert recipe.data.train[0].limit == 3


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("optimizer.lr=-1", "--set optimizer.lr: optimizer.lr: "),
        ("schedule.name=wds", "--set schedule.name: unknown strategy 'wds'"),
        ("run.sed=1", "--set run.sed: unknown key 'run.sed'"),
        ("nonsense", "--set 'nonsense' is not an override"),
        ("data.train.4.limit=1", "--set data.train.4.limit: data.train has no entry 4"),
        ("recipe.x=1", "--set recipe.x: recipe is a value, not a table"),
        ("filters.0.min=3", "--set filters.0.min: the recipe has no list filters"),
        ("data.0=3", "--set data.0: the recipe has no list data"),
    ],
)
def test_a_wrong_override_is_located_at_itself(tmp_path: Path, override: str, expected: str) -> None:
    assert any(expected in problem for problem in problems(tmp_path, GOOD, override))


def test_a_secret_is_refused(tmp_path: Path) -> None:
    found = problems(tmp_path, GOOD, "tracking.to=['sk-abcdefghijklmnopqrstuvwx']")
    assert any("looks like a secret" in problem for problem in found)


def test_problems_are_recipe_errors(tmp_path: Path) -> None:
    with pytest.raises(RecipeError):
        read(tmp_path, GOOD.replace("rows.jsonl", "rows.jsonl\nx"))


# -- what a task brings --------------------------------------------------------------------------------------------

LABELLED = GOOD.replace("[model]", 'task = "classification"\n\n[model]')


def test_a_task_fills_what_the_recipe_leaves_out(tmp_path: Path) -> None:
    more = LABELLED + '[[data.general]]\npath = "g.jsonl"\n[[data.eval]]\npath = "e.jsonl"\n'
    recipe = read(tmp_path, more).recipe
    assert {rows.format.id() for _, rows in recipe.data.datasets()} == {"labelled"}
    assert (recipe.masking.id(), recipe.batching.id(), recipe.batching.max_length) == ("label", "bucketed", 512)
    assert [metric.id() for metric in recipe.evaluation.metrics] == ["accuracy", "macro-f1", "loss"]
    assert (recipe.run.epochs, recipe.run.micro_batch) == (3, 16)
    assert tomli.loads(resolved(read(tmp_path, more)))["masking"] == {"name": "label", "control_tokens": "refuse"}


def test_what_the_recipe_says_stands(tmp_path: Path) -> None:
    said = LABELLED.replace("[model]", '[run]\nmax_steps = 5\nmicro_batch = 2\n[batching]\nname = "padded"\n[model]')
    recipe = read(tmp_path, said, "evaluation.metrics=['loss']", "batching.too_long=drop").recipe
    assert (recipe.run.epochs, recipe.run.max_steps, recipe.run.micro_batch) == (None, 5, 2)
    assert (recipe.batching.id(), recipe.batching.max_length, recipe.batching.too_long) == ("padded", 512, "drop")
    assert [metric.id() for metric in recipe.evaluation.metrics] == ["loss"]


def test_overrides_change_what_the_task_brings_too(tmp_path: Path) -> None:
    """Whatever their order: a task that comes last on the command line brings the defaults of the others."""
    overrides = ("run.max_steps=7", "batching.max_length=64", "data.train.0.format.text=body", "task=classification")
    loaded = read(tmp_path, GOOD, *overrides)
    recipe = loaded.recipe
    assert recipe.data.train[0].format.model_dump()["name"] == "labelled"
    assert recipe.data.train[0].format.model_dump()["text"] == "body"
    assert (recipe.batching.max_length, recipe.run.max_steps, recipe.run.epochs) == (64, 7, None)
    assert loaded.dropped == ()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ('masking = "assistant"', "masking 'assistant' is for a task that learns tokens, not for 'classification'"),
        ('batching = "packed"', 'with this task: batching = "bucketed"'),
        ('[evaluation]\nmetrics = ["perplexity"]', 'with this task: metrics = ["accuracy", "macro-f1", "loss"]'),
        ('[evaluation]\nmetrics = ["loss", "token-accuracy"]', "recipe.toml:5:20: metric 'token-accuracy' is for"),
    ],
)
def test_strategies_for_tokens_do_not_go_with_classes(tmp_path: Path, change: str, expected: str) -> None:
    (problem,) = problems(tmp_path, LABELLED.replace("\n[model]", f"{change}\n[model]"))
    assert expected in problem and "with this task: " in problem


def test_formats_belong_to_their_task(tmp_path: Path) -> None:
    (wrong,) = problems(tmp_path, LABELLED.replace('path = "rows.jsonl"', 'path = "r.jsonl"\nformat = "messages"'))
    assert wrong.startswith("recipe.toml:10:1: format 'messages'") and 'with this task: format = "labelled"' in wrong
    labels = GOOD.replace('path = "rows.jsonl"', 'path = "r.jsonl"\nformat = "labelled"')
    found = problems(tmp_path, labels, "masking=label", 'evaluation.metrics=["accuracy"]')
    assert [problem.partition(" is for")[0].rpartition(": ")[2] for problem in found] == [
        "format 'labelled'",
        "metric 'accuracy'",
        "masking 'label'",
    ]
    assert "a task that learns a class for each row or a number for each row, not for 'sft'" in found[0]


def test_an_unknown_encoding_is_refused(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, GOOD + 'reader = {name = "folder", encodings = ["utf-8", "klingon"]}\n')
    assert problem.startswith("recipe.toml:8:50: data.train.0.reader.encodings.1: input should be 'utf-8'")


def test_labels_that_name_nothing_to_tell_apart(tmp_path: Path) -> None:
    for labels, said in (('["a"]', "names a single class"), ('["a", "b", "a"]', "names 'a' twice")):
        (problem,) = problems(
            tmp_path, LABELLED.replace('"classification"', f'{{name = "classification", labels = {labels}}}')
        )
        assert said in problem and problem.startswith("recipe.toml:3:")


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("tracking.to=wandb", ("tracking", "to")),
        ("plugins.observe=acme", ("plugins", "observe")),
        ("data.train.0.ignore=weight", ("data", "train", 0, "ignore")),
    ],
)
def test_an_override_of_a_list_may_be_its_one_word(tmp_path: Path, override: str, key: tuple[str | int, ...]) -> None:
    class Watches:
        pass

    path = tmp_path / "r.toml"
    path.write_text(GOOD)
    value: Any = load(path, [override], Plugins.of(acme=Watches())).recipe
    for part in key:
        value = value[part] if isinstance(part, int) else getattr(value, part)
    assert value == (override.partition("=")[2],)


def test_strategies_of_a_list_may_be_one_too(tmp_path: Path) -> None:
    recipe = read(tmp_path, GOOD, "evaluation.metrics=perplexity", "filters=exact-duplicates").recipe
    assert [one.id() for one in (*recipe.evaluation.metrics, *recipe.filters)] == ["perplexity", "exact-duplicates"]


def test_a_word_for_a_list_in_a_recipe_is_answered_with_the_list(tmp_path: Path) -> None:
    (said,) = problems(tmp_path, GOOD + '\n[tracking]\nto = "wandb"\n')
    assert 'write to = ["wandb"]' in said
