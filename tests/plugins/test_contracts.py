"""fttool's own strategies keep the contracts that it asks of everybody's: all of them, found as a recipe finds them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from pyarrow import feather, parquet

from fttool.contracts import FAMILIES
from fttool.contracts.sharding import PrecisionContext
from fttool.plugins import Plugins
from fttool.testing import CONTRACTS, Contract, tiny_examples, tiny_labelled

from ..tiny_gguf import PACKAGE, write_package


@pytest.fixture(scope="module", autouse=True)
def a_package_with_a_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("packages")
    if find_spec("gguf"):
        write_package(folder)
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(folder)
        yield


def on_a_gpu(_: Contract) -> PrecisionContext:
    return PrecisionContext(device=torch.device("cuda"), native_bf16=True)


def written(name: str, text: str) -> Callable[[Contract, Path], Path]:
    """A method that writes this text into a file of this name."""

    def write(_: Contract, folder: Path) -> Path:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
        return folder / name

    return write


def in_columns(save: Callable[..., Any], name: str) -> Callable[[Contract, Path], Path]:
    """A method that saves `TEXTS` as a table."""

    def write(_: Contract, folder: Path) -> Path:
        save(pa.Table.from_pylist(TEXTS), str(folder / name))
        return folder / name

    return write


def mails(_: Contract, folder: Path) -> Path:
    """Write two files of text, in a folder each."""
    for label, text in (("x", "a"), ("y", "b")):
        written(f"mails/{label}/1", text)(_, folder)
    return folder / "mails"


TEXTS = [{"text": "a"}, {"text": "b"}]
CHAT = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]

VARIANTS: dict[str, dict[str, Any]] = {
    "model.config": {"options": [{"path": "tiny-llama/config.json"}]},
    "model.pretrained": {"options": [{"path": "tiny-llama"}]},
    "model.package": {"options": [{"path": PACKAGE}], "requires": ["gguf"]},
    "reader.auto": {"rows": TEXTS, "write": written("rows.json", json.dumps(TEXTS))},
    "reader.json": {"rows": TEXTS, "write": written("rows.jsonl", "".join(json.dumps(row) + "\n" for row in TEXTS))},
    "reader.csv": {"rows": TEXTS, "write": written("rows.csv", "text\na\nb\n")},
    "reader.text": {"rows": TEXTS, "write": written("rows.txt", "a\nb\n")},
    "reader.conll": {"rows": [{"column 1": ["a"], "column 2": ["B"]}], "write": written("rows.conll", "a B\n")},
    "reader.folder": {
        "rows": [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}],
        "write": mails,
    },
    "reader.parquet": {"rows": TEXTS, "write": in_columns(parquet.write_table, "rows.parquet")},
    "reader.arrow": {"rows": TEXTS, "write": in_columns(feather.write_feather, "rows.arrow")},
    "format.messages": {"reads": [{"messages": CHAT}, {"messages": [{"role": "system", "content": "c"}, *CHAT]}]},
    "format.prompt-completion": {
        "reads": [{"prompt": "a", "completion": "b"}, {"prompt": CHAT[:1], "completion": CHAT[1:]}]
    },
    "format.alpaca": {
        "reads": [
            {"instruction": "a", "output": "b"},
            {"instruction": "a", "input": "c", "output": "b", "system": "s", "history": [["q", "a"]]},
        ],
    },
    "format.sharegpt": {
        "reads": [
            {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
            {"conversations": CHAT, "system": "s", "tools": [{"name": "now"}]},
        ],
    },
    "format.text": {"reads": [{"text": "a text"}]},
    "format.labelled": {
        "options": [{}, {"second": "second"}, {"text": "text", "label": "labels", "separator": ";"}],
        "reads": [
            {"text": "a", "second": "b", "labels": ["c", "d"]},
            {"text": "a", "second": "b", "labels": "c;d"},
            {"text": "a", "second": "b", "labels": 1},
        ],
        "refuses": [{}, {"text": "a"}, {"text": " ", "second": "b", "labels": "c"}, {"labels": "c"}],
    },
    "format.tagged": {
        "options": [{}, {"tokens": "tokens", "tags": "tags", "names": ["O", "B-x"]}],
        "reads": [{"tokens": ["a", "b c"], "tags": ["O", "B-x"]}],
        "refuses": [
            {},
            {"tokens": ["a"]},
            {"tokens": [], "tags": []},
            {"tokens": ["a", "b"], "tags": ["O"]},
            {"tokens": ["a", " "], "tags": ["O", "O"]},
            {"tokens": ["a"], "tags": ["B-"]},
            {"tokens": ["a"], "tags": [5]},
        ],
    },
    "masking.chosen-turns": {"options": [{"turns": [1]}, {"turns": [1, -1]}]},
    "masking.words": {"options": [{}, {"control_tokens": "text"}, {"control_tokens": "keep"}]},
    "task.token-classification": {"options": [{}, {"pieces": "all"}, {"labels": ["2", "1"]}]},
    "masking.label": {"options": [{}, {"control_tokens": "text"}, {"control_tokens": "keep"}]},
    "filter.length": {
        "options": [{}, {"unit": "tokens", "of": "row", "max": 20}, {"unit": "characters", "of": "prompt"}]
    },
    "filter.exact-duplicates": {"options": [{}, {"ignore": ["case", "space"], "action": "flag"}]},
    "filter.overlap": {"options": [{}, {"n": 3, "action": "flag"}]},
    "filter.markup": {"options": [{}, {"of": "row", "share": 0.0}]},
    "filter.conflicting-labels": {"examples": lambda _: [*tiny_labelled(), *tiny_examples()]},
    "filter.label-errors": {
        "options": [{}, {"action": "relabel", "folds": 2}],
        "examples": lambda _: [*tiny_labelled() * 4, *tiny_examples()],
    },
    "filter.relevance": {"options": [{}, {"by": "model", "gain": 100.0}]},
    "filter.diversity": {"options": [{}, {"keep": 3, "compare": "row"}]},
    "filter.encoding": {"options": [{}, {"action": "repair"}]},
    "filter.personal-data": {"options": [{}, {"action": "mask"}, {"action": "flag"}]},
    "filter.language": {"options": [{}, {"languages": ["en"]}], "requires": ["py3langid"]},
    "filter.words": {"options": [{}, {"min": 2, "max": 5}]},
    "freezing.top-layers": {
        "options": [{"n": 1}, {"n": 2, "final_norm": False, "head": False}, {"n": 1, "embeddings": True}]
    },
    "freezing.gradual": {
        "options": [{}, {"every": 3, "start": 1}, {"every": 0.2, "order": "bottom-up", "embeddings": "never"}]
    },
    "freezing.patterns": {"options": [{}, {"train": ["*.mlp.*", "model.layers.1.*"], "freeze": ["*.up_proj.*"]}]},
    "freezing.bitfit": {
        "options": [{}, {"head": True}],
        "model": {"attention_bias": True, "mlp_bias": True},
    },
    "freezing.head-only": {"options": [{}, {"untie": True}, {"features": "off"}]},
    "freezing.lora": {
        "options": [{}, {"rank": 4, "rslora": True}, {"dora": True}, {"targets": ["q_proj"]}, {"merge": False}],
    },
    "freezing.lisa": {"options": [{}, {"n": 1, "every": 2}]},
    "layer_rates.discriminative": {"options": [{}, {"decay": 0.3846}]},
    "mixing.weighted": {
        "options": [
            {"shares": {"first": 0.5, "second": 0.5}},
            {"shares": {"first": 0.25, "second": 0.75}, "by": "tokens"},
        ]
    },
    "mixing.replay": {"options": [{"share": 0.2}, {"share": 0.2, "by": "tokens"}], "general_sizes": (8, 5)},
    "batching.packed": {"options": [{}, {"max_length": 32}]},
    "batching.bucketed": {"options": [{}, {"pool": 1}]},
    "schedule.constant": {"options": [{}, {"warmup": 0.1}]},
    "schedule.cosine-restarts": {"options": [{}, {"first": 3, "multiplier": 2.0}, {"cycles": 3, "multiplier": 1.5}]},
    "schedule.inverse-sqrt": {"options": [{}, {"timescale": 5, "min_lr": 1e-4}]},
    "schedule.slanted-triangular": {"options": [{}, {"min_lr": 0.0}]},
    "optimizer.muon": {"options": [{}, {"adjust_lr": "original", "adamw_lr": 1e-3}]},
    "optimizer.sgd": {"options": [{}, {"momentum": 0.0}, {"nesterov": True}]},
    "regularizer.l2-init": {"options": [{"strength": 0.01}, {"strength": 0.01, "decoupled": True}]},
    "regularizer.l2-sp": {"options": [{}, {"alpha": 1.0, "beta": 0.0, "decoupled": True}]},
    "regularizer.ewc": {"options": [{"strength": 1.0}, {"strength": 1.0, "fisher": "empirical", "examples": 2}]},
    "regularizer.kl-init": {
        "options": [{"strength": 1.0}, {"strength": 2.0, "on": "general", "temperature": 2.0, "dtype": "bfloat16"}]
    },
    "regularizer.mixout": {"options": [{}, {"p": 0.2, "mask": "weight"}]},
    "regularizer.ema": {"options": [{}, {"decay": 0.5, "warmup": False, "start": 2}]},
    "regularizer.wise-ft": {"options": [{}, {"alpha": 0.9}]},
    "precision.fp16": {"context": on_a_gpu},
    "sharding.ddp": {"options": [{"processes": 1}, {"processes": 4, "bucket_mb": 50, "timeout": 60}]},
    "sharding.fsdp": {"options": [{"processes": 2}, {"processes": 4, "cpu_offload": True, "state": "full"}]},
    "sharding.auto": {"options": [{"processes": 1}, {"processes": 2}, {"processes": 8, "memory_gb": 1.0}]},
    "sharding.zero": {
        "options": [{"processes": 2, "stage": 1}, {"processes": 4, "stage": 3}],
        "requires": ("deepspeed",),
    },
    "metric.exact-match": {"options": [{}, {"normalise": True}]},
    "metric.rouge-l": {"options": [{}, {"stem": True}], "requires": ("rouge_score",)},
    "metric.json-valid": {"options": [{}, {"fenced": True, "kind": "object"}]},
    "task.classification": {
        "options": [
            {},
            {"multi_label": True, "class_weights": "balanced"},
            {"class_weights": {"2": 3.0}},
            {"kind": "regression"},
        ]
    },
}
"""What a strategy's contract needs to know beside its defaults."""


def contract_class(strategy: type[Any]) -> type[Contract]:
    """The contract of one strategy, as a plugin author writes it."""
    family, name = strategy.family, strategy.id()
    return type(
        f"Test {family}.{name}", (CONTRACTS[family],), {"strategy": strategy, **VARIANTS.get(f"{family}.{name}", {})}
    )


for one in (s for family in FAMILIES for s in Plugins.of().family(family)):
    made = contract_class(one)
    globals()[made.__name__.replace(" ", "")] = made


def test_every_family_has_a_contract() -> None:
    assert set(CONTRACTS) == set(FAMILIES)
