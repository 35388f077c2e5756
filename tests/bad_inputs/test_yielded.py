"""What a plugin's strategies yield that is not what their family says: exit 6 with strategy, plugin and place."""

from __future__ import annotations

import json
from typing import Any

import pytest

HEAD = """
from typing import Any, Literal
import dataclasses
import math
import torch
from fttool.api import *

def strategy(family, build, **options):
    class Mine(family):
        name: Literal["acme.x"] = "acme.x"
        if options.get("min"):
            min: int = 1
        def build(self, ctx):
            return build(ctx)
    return Mine

class Batches:
    def __init__(self, ctx, plan=None, collate=None):
        self.ctx, self.planned, self.collated = ctx, plan, collate
    def plan(self, order, epoch):
        plan = [[(row,) for row in list(order)[at : at + 2]] for at in range(0, len(order), 2)]
        return self.planned(plan) if self.planned else plan
    def collate(self, sequences):
        from torch.nn.utils.rnn import pad_sequence
        rows = [row for (row,) in sequences]
        ids = pad_sequence([torch.tensor(row.input_ids) for row in rows], batch_first=True)
        labels = [torch.tensor([-100, *row.labels[1:]]) for row in rows]
        labels = pad_sequence(labels, batch_first=True, padding_value=-100)
        mask = pad_sequence([torch.ones(len(row.input_ids), dtype=torch.long) for row in rows], batch_first=True)
        found = {"input_ids": ids, "labels": labels, "attention_mask": mask}
        return self.collated(found) if self.collated else found

def with_labels(change):
    return lambda ctx: Batches(ctx, collate=lambda found: {**found, "labels": change(found)})

@hookimpl
def fttool_strategies() -> list[type[Strategy]]:
    return [MINE]
"""


def weighing(importance: str) -> str:
    """A regularizer whose importance is this."""
    pull = f"Pull(coefficient=lambda name: 1.0, importance=lambda: {importance})"
    return f"strategy(Regularizer, lambda ctx: Regularization(pulls=[{pull}]))"


def scoring(change: str) -> str:
    """The task `sft` whose predictions are changed in training."""
    return (
        "strategy(Task, lambda ctx: (lambda parts: __import__('dataclasses').replace(parts, reference=None,"
        " score=lambda model, batch: (lambda one: __import__('dataclasses').replace(one,"
        f" {change}) if model.training and torch.is_grad_enabled() else one)(parts.score(model, batch))))"
        "(__import__('fttool_plugins.task.sft', fromlist=['x']).SupervisedFineTuning().build(ctx)))"
    )


NOTHING = "lambda ctx: None"
CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    # family and build → where it stands in the recipe, and what is said
    **{
        f"{family}-none": (f"strategy({base}, {NOTHING})", place, "yields None from build, not a")
        for family, base, place in [
            ("filter", "Filter", {"filters": ["acme.x"]}),
            ("mixing", "Mixing", {"mixing": "acme.x"}),
            ("masking", "Masking", {"masking": "acme.x"}),
            ("batching", "Batching", {"batching": "acme.x"}),
            ("freezing", "Freezing", {"freezing": "acme.x"}),
            ("layer_rates", "LayerRates", {"layer_rates": "acme.x"}),
            ("optimizer", "Optimizer", {"optimizer": "acme.x"}),
            ("schedule", "Schedule", {"schedule": "acme.x"}),
            ("regularizer", "Regularizer", {"regularizers": ["acme.x"]}),
            ("precision", "Precision", {"precision": "acme.x"}),
            ("sharding", "Sharding", {"sharding": "acme.x"}),
            ("task", "Task", {"task": "acme.x"}),
            ("metric", "Metric", {"evaluation": {"metrics": ["acme.x"]}}),
        ]
    },
    "factor-below-0": (
        "strategy(Schedule, lambda ctx: lambda step: -1.0)",
        {"schedule": "acme.x"},
        "gives -1.0 as the factor of update 1",
    ),
    "factor-nan-later": (
        "strategy(Schedule, lambda ctx: lambda step: 1.0 if step < 2 else math.nan)",
        {"schedule": "acme.x"},
        "gives nan as the factor of update 3",
    ),
    "factor-infinite": (
        "strategy(Schedule, lambda ctx: lambda step: math.inf)",
        {"schedule": "acme.x"},
        "gives inf as",
    ),
    "factor-text": ("strategy(Schedule, lambda ctx: lambda step: '1')", {"schedule": "acme.x"}, "gives '1' as"),
    "rate-below-0": (
        "strategy(LayerRates, lambda ctx: lambda name: -0.5)",
        {"layer_rates": "acme.x"},
        "gives -0.5 as the rate of 'model.embed_tokens.weight'",
    ),
    "rate-nan": ("strategy(LayerRates, lambda ctx: lambda name: math.nan)", {"layer_rates": "acme.x"}, "gives nan as"),
    "pull-below-0": (
        "strategy(Regularizer, lambda ctx: Regularization(pulls=[Pull(coefficient=lambda name: -1.0)]))",
        {"regularizers": ["acme.x"]},
        "gives -1.0 as the pull at '",
    ),
    "unit-strange": (
        "strategy(Freezing, lambda ctx: FreezingPlan(units=[TrainableUnit(parameters=frozenset(['w']))]))",
        {"freezing": "acme.x"},
        "unfreezes 'w', which the model does not have",
    ),
    "unit-twice": (
        "strategy(Freezing, lambda ctx: FreezingPlan(units=[TrainableUnit(parameters=frozenset(['lm_head.weight']))]"
        " * 2))",
        {"freezing": "acme.x"},
        "unfreezes 'lm_head.weight' in two units",
    ),
    "no-optimizer": (
        "strategy(Optimizer, lambda ctx: OptimizerParts(optimizer_class=dict, options={}))",
        {"optimizer": "acme.x"},
        "which is not a torch.optim.Optimizer",
    ),
    "other-parameters": (
        "strategy(Optimizer, lambda ctx: OptimizerParts(optimizer_class=type('Half', (torch.optim.SGD,), {'__init__':"
        " lambda self, groups, **_: torch.optim.SGD.__init__(self, [{**groups[0], 'params': groups[0]['params'][:1]}],"
        " lr=0.1)}), options={}))",
        {"optimizer": "acme.x"},
        "does not hold the groups that it was given",
    ),
    "format-of-numbers": (
        "strategy(Precision, lambda ctx: Numerics(autocast='fp8', reason=''))",
        {"precision": "acme.x"},
        "yields autocast = 'fp8'",
    ),
    "processes": (
        "strategy(Sharding, lambda ctx: ShardingPlan(processes=3, prove=bytes_held))",
        {"sharding": "acme.x"},
        "plans 3 processes, and its launch says 1",
    ),
    "verdicts": (
        "strategy(Filter, lambda ctx: lambda examples: [True] * len(examples))",
        {"filters": ["acme.x"]},
        "gave True as a verdict",
    ),
    "verdict-of-another-row": (
        "strategy(Filter, lambda ctx: lambda examples: [Kept('turned', examples[0])] * len(examples))",
        {"filters": ["acme.x"]},
        "rows.jsonl:1 in place of that of ",
    ),
    "row": (
        "strategy(Masking, lambda ctx: lambda example: None)",
        {"masking": "acme.x"},
        "gave None, not an Encoded",
    ),
    "ids": (
        "strategy(Masking, lambda ctx: lambda example: Encoded([5, -6, 7], [-100, -6, 7]))",
        {"masking": "acme.x"},
        "gave tokens that are not ids",
    ),
    "order-beyond": (
        "strategy(Mixing, lambda ctx: lambda epoch: range(99))",
        {"mixing": "acme.x"},
        "orders row 8 in epoch 0, and there are 8",
    ),
    "plan-strange": (
        "strategy(Batching, lambda ctx: Batches(ctx, plan=lambda plan: [*plan[:-1], [(77,), (78,)]]))",
        {"batching": "acme.x"},
        "plans row 77 in epoch 0",
    ),
    "plan-drops": (
        "strategy(Batching, lambda ctx: Batches(ctx, plan=lambda plan: plan[:-1]))",
        {"batching": "acme.x"},
        "does not plan each row of the order once",
    ),
    "plan-too-many": (
        "strategy(Batching, lambda ctx: Batches(ctx, plan=lambda plan: [sum(plan, [])]))",
        {"batching": "acme.x"},
        "plans a micro-batch of 8 sequences",
    ),
    "labels-float": (
        "strategy(Batching, with_labels(lambda found: found['labels'].float()))",
        {"batching": "acme.x"},
        "collates labels that is not a (B, T) tensor of torch.long",
    ),
    "labels-shape": (
        "strategy(Batching, with_labels(lambda found: found['labels'][:, 1:]))",
        {"batching": "acme.x"},
        "collates labels of shape",
    ),
    "labels-lost": (
        "strategy(Batching, with_labels(lambda found: found['labels'] * 0 - 100))",
        {"batching": "acme.x"},
        "collates 0 labels of rows that have",
    ),
    "metric-of-both": (
        "strategy(Metric, lambda ctx: Measure(statistics=lambda one: one.losses_N.double(), value=float,"
        " answers=lambda some: torch.zeros(1).double()))",
        {"evaluation": {"metrics": ["acme.x"]}},
        "yields answers, and says generates = False",
    ),
    "loss-term": (
        "strategy(Regularizer, lambda ctx: Regularization(loss=lambda *_: None))",
        {"regularizers": ["acme.x"]},
        "adds None to the loss, not one number",
    ),
    "importance-below-0": (
        weighing("{name: -torch.ones_like(p) for name, p in ctx.model.named_parameters()}"),
        {"regularizers": ["acme.x"]},
        "gives -1 as importance in 'model.embed_tokens.weight'; it must be finite and at least 0",
    ),
    "importance-nan": (
        weighing("{name: p * math.nan for name, p in ctx.model.named_parameters()}"),
        {"regularizers": ["acme.x"]},
        "gives nan as importance in",
    ),
    "importance-infinite": (
        weighing("{name: p * 0 + math.inf for name, p in ctx.model.named_parameters()}"),
        {"regularizers": ["acme.x"]},
        "gives inf as importance in",
    ),
    "importance-missing": (weighing("None"), {"regularizers": ["acme.x"]}, "gives None as importance"),
    "importance-number": (
        weighing("{'lm_head.weight': 1.0}"),
        {"regularizers": ["acme.x"]},
        "gives 1.0 as the importance of 'lm_head.weight', not a tensor",
    ),
    "importance-strange": (
        weighing("{'module.lm_head.weight': torch.ones(3)}"),
        {"regularizers": ["acme.x"]},
        "weighs 'module.lm_head.weight', which the model does not have",
    ),
    "pull-strange": (
        "strategy(Regularizer, lambda ctx: Regularization(pulls=[None]))",
        {"regularizers": ["acme.x"]},
        "yields None among its pulls, not a Pull",
    ),
    "term-without-weights": (
        "strategy(Regularizer, lambda ctx: Regularization(loss=lambda model, *_: model.lm_head.weight.detach().sum()))",
        {"regularizers": ["acme.x"]},
        "which depends on no weight that trains",
    ),
    "rate-of-a-group": (
        "strategy(Optimizer, lambda ctx: OptimizerParts(optimizer_class=torch.optim.SGD, options={},"
        " group_keys=lambda name, p, layers: {'lr': math.nan}))",
        {"optimizer": "acme.x"},
        "gives nan as the lr of 'model.embed_tokens.weight'",
    ),
    "row-of-functions": (
        "strategy(Filter, lambda ctx: lambda rows: [Kept('x', dataclasses.replace(row, template={'f': lambda: 1}))"
        " for row in rows])",
        {"filters": ["acme.x"]},
        "gave a row that cannot be written to disk",
    ),
    "order-of-floats": (
        "strategy(Mixing, lambda ctx: lambda epoch: [float(row) for row in range(8)])",
        {"mixing": "acme.x"},
        "orders 0.0 in epoch 0, which is not the number of a row",
    ),
    "labels-shifted": (
        "strategy(Batching, with_labels(lambda found: found['labels'].roll(-1, 1)))",
        {"batching": "acme.x"},
        "collates labels that are not the tokens' own",
    ),
    "statistics-missing": (
        "strategy(Metric, lambda ctx: Measure(statistics=lambda one: None, value=float))",
        {"evaluation": {"metrics": ["acme.x"]}, "eval": True},
        "counts None, not statistics (K,) of float64",
    ),
    "statistics-of-single": (
        "strategy(Metric, lambda ctx: Measure(statistics=lambda one: one.losses_N.sum().view(1), value=float))",
        {"evaluation": {"metrics": ["acme.x"]}, "eval": True},
        "counts a tensor (1,) of torch.float32, not statistics",
    ),
    "statistics-of-another-length": (
        "strategy(Metric, lambda ctx: (lambda calls: Measure(statistics=lambda one: (calls.append(0),"
        " torch.zeros(len(calls)).double())[1], value=lambda all: 1.0))([]))",
        {"evaluation": {"metrics": ["acme.x"]}, "eval": True},
        "statistics in a micro-batch, and",
    ),
    "no-function": (
        "strategy(Metric, lambda ctx: Measure(statistics=None, value=float))",
        {"evaluation": {"metrics": ["acme.x"]}, "eval": True},
        "yields statistics = None, not a function",
    ),
    "losses-meant": (
        scoring("losses_N=one.losses_N.mean().view(1)"),
        {"task": "acme.x"},
        "items with 1 losses: the loss of an update is their sum over the items",
    ),
    "losses-of-16-bits": (scoring("losses_N=one.losses_N.half()"), {"task": "acme.x"}, "losses of torch.float16"),
    "losses-two-dimensional": (scoring("losses_N=one.losses_N[None]"), {"task": "acme.x"}, "losses of shape (1, "),
    "term-of-a-task": (scoring("terms={'x': None}"), {"task": "acme.x"}, "gives None as x, not one number"),
    "measure": (
        "strategy(Metric, lambda ctx: Measure(statistics=lambda one: one.losses_N.sum().double().view(1),"
        " value=lambda total: None))",
        {"evaluation": {"metrics": ["acme.x"]}, "eval": True},
        "measures None, not a number",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_by_name(shell: Any, site: Any, recipe: dict[str, Any], case: str) -> None:
    source, changes, said = CASES[case]
    site.install(HEAD.replace("MINE", source))
    changes = dict(changes)
    if changes.pop("eval", None):
        recipe["data"]["eval_share"] = 0.3
    if "batching" in changes:
        del recipe["batching"]
    recipe |= changes
    answer = shell.run(recipe)
    assert answer.code == 6, answer.err
    family = case.partition("-none")[0] if "-none" in case else ""
    assert f"{family} 'acme.x' " in answer.err and said in answer.err, answer.err
    assert ("plugin 'acme' of dist-acme 1.0" in answer.err and "tell the plugin's authors" in answer.err) or (
        "first token" in answer.err or "labels are not shifted" in answer.err
    )
    assert f"{shell.recipe}:" in answer.err.splitlines()[-2], answer.err
    assert not list(shell.runs.glob("*/model"))


def test_what_becomes_wrong_in_the_run_ends_it(shell: Any, site: Any, recipe: dict[str, Any]) -> None:
    """A schedule that is not a pure function: what was looked at before is not what the loop meets."""
    factor = "(calls.append(0), 1.0 if len(calls) < 24 else -1.0)[1]"
    source = f"strategy(Schedule, lambda ctx: (lambda calls: lambda step: {factor})([]))"
    site.install(HEAD.replace("MINE", source))
    recipe["schedule"] = "acme.x"
    recipe["run"]["max_steps"] = 8
    answer = shell.run(recipe)
    assert answer.code == 6 and "gives -1.0 as the factor of update" in answer.err, answer.err
    summary = json.loads((shell.runs / "recipe" / "summary.json").read_text())
    assert summary["status"] == "failed"
