"""What fttool asks of every strategy of a family, asked of those of this package."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path

import fttool_acme
import pytest
from fttool_acme import (
    After,
    Bf16OnGpu,
    Capped,
    Drops,
    DynamicFineTuning,
    EveryOther,
    LongestFirst,
    MedianLoss,
    MultipleChoice,
    NoUrls,
    OneOfMany,
    RDrop,
    Refusals,
    Repetitive,
    Signum,
    SlowEmbeddings,
    Soup,
    Sqlite,
    TailAverage,
    TokenBudget,
    Top5,
    WholeSentences,
)

from fttool.api import Example, RegularizerContext
from fttool.testing import (
    CONTRACTS,
    BatchingContract,
    FilterContract,
    FormatContract,
    FreezingContract,
    LayerRatesContract,
    MaskingContract,
    MetricContract,
    MixingContract,
    ModelSourceContract,
    OptimizerContract,
    PrecisionContract,
    ReaderContract,
    RegularizerContract,
    ScheduleContract,
    ShardingContract,
    TaskContract,
    regularizer_context,
    tiny_examples,
    tiny_model,
    tiny_tokenizer,
)


class TestSoup(ModelSourceContract):
    strategy = Soup
    options = ({"path": "day-*"},)

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        """Two models that differ in the epsilon of their norms and in their head."""
        self.folder = tmp_path
        for day in ("monday", "tuesday"):
            model = tiny_model()
            model.lm_head.weight.data.mul_(len(day))
            model.save_pretrained(tmp_path / f"day-{day}")
            tiny_tokenizer().save_pretrained(tmp_path / f"day-{day}")


class TestSqlite(ReaderContract):
    strategy = Sqlite
    options = ({}, {"query": "SELECT text, label FROM rows ORDER BY rowid"})
    rows = ({"text": "a", "label": 1}, {"text": "b"})

    def write(self, folder: Path) -> Path:
        path = folder / "rows.sqlite"
        with closing(sqlite3.connect(path)) as database:
            database.execute("CREATE TABLE rows (text TEXT, label INTEGER)")
            database.executemany("INSERT INTO rows VALUES (?, ?)", [("a", 1), ("b", None)])
            database.commit()
        return path


class TestMultipleChoice(FormatContract):
    strategy = MultipleChoice
    options = ({}, {"explanation": "because"})
    reads = (
        {"question": "2 + 2 = ?", "choices": ["3", "4"], "answer": 1, "because": "2 + 2 is 4."},
        {"question": "Which?", "choices": ["this", "that"], "answer": "A", "because": "It is."},
    )


class TestNoUrls(FilterContract):
    strategy = NoUrls
    options = ({}, {"where": "anywhere"})


class TestRepetitive(FilterContract):
    strategy = Repetitive


class TestTokenBudget(FilterContract):
    strategy = TokenBudget
    options = ({"tokens": 100}, {"tokens": 1})


class TestCapped(MixingContract):
    strategy = Capped
    options = ({}, {"rows": 7})


class TestAfter(MaskingContract):
    strategy = After
    options = ({}, {"marker": "e"})

    def examples(self) -> Sequence[Example]:
        """The usual rows, and one of each kind that has the marker."""
        turns = (
            {"role": "user", "content": "Answer: what is 2 + 3?"},
            {"role": "assistant", "content": "It is more than 4.\nAnswer: 5"},
        )
        chat = Example(origin="rows.jsonl:1", messages=turns, completion_from=1)
        plain = Example(origin="rows.jsonl:2", prompt="2 + 3? ", completion="More than 4. Answer: 5")
        return [*tiny_examples(), chat, plain]


class TestLongestFirst(BatchingContract):
    strategy = LongestFirst


class TestEveryOther(FreezingContract):
    strategy = EveryOther
    options = ({}, {"first": 1})


class TestSlowEmbeddings(LayerRatesContract):
    strategy = SlowEmbeddings
    options = ({}, {"factor": 1.0})


class TestSignum(OptimizerContract):
    strategy = Signum
    options = ({}, {"momentum": 0.0})


class TestDrops(ScheduleContract):
    strategy = Drops
    options = ({}, {"at": [2, 40.0, 0.9], "factor": 0.5})


class TestTailAverage(RegularizerContract):
    strategy = TailAverage
    options = ({}, {"last": 10.0})


class TestRDrop(RegularizerContract):
    strategy = RDrop
    options = ({}, {"alpha": 5.0})

    def context(self) -> RegularizerContext:
        """A model with dropout."""
        self.model = tiny_model(attention_dropout=0.1)
        return regularizer_context(self.model, self.run_dir)


class TestBf16OnGpu(PrecisionContract):
    strategy = Bf16OnGpu


class TestOneOfMany(ShardingContract):
    strategy = OneOfMany
    options = ({}, {"threads": 1, "gpu_memory": 0.5})

    @pytest.fixture(autouse=True)
    def _threads(self) -> Generator[None]:
        """The bound is the whole process's; the tests after this one have what they had."""
        import torch

        before = torch.get_num_threads()
        yield
        torch.set_num_threads(before)


class TestDynamicFineTuning(TaskContract):
    strategy = DynamicFineTuning


class TestTop5(MetricContract):
    strategy = Top5
    options = ({}, {"k": 1})


class TestMedianLoss(MetricContract):
    strategy = MedianLoss


class TestWholeSentences(MetricContract):
    strategy = WholeSentences


class TestRefusals(MetricContract):
    strategy = Refusals
    options = ({}, {"begins": ["No", "Nothing"]})


def test_every_strategy_has_its_contract_here() -> None:
    tested = {one.strategy: one for one in globals().values() if hasattr(one, "strategy")}
    assert set(tested) == set(fttool_acme.fttool_strategies())
    assert {strategy.family for strategy in tested} == set(CONTRACTS)
    for strategy, test in tested.items():
        assert issubclass(test, CONTRACTS[strategy.family])
