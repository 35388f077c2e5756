"""What holds for formats: an example for a good row, and a sentence for any other."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pytest
from typing_extensions import override

from fttool.contracts.rows import Example, FormatContext, RowReader
from fttool.contracts.strategy import Strategy
from fttool.rows.checks.noted import noted_row
from fttool.testing.contract import Contract


def learns_labels(strategy: type[Strategy]) -> bool:
    """Whether a strategy is for rows with labels: classes of rows or words, or numbers; and not for tokens."""
    return strategy.level is not None and not strategy.serves("token")


class FormatContract(Contract):
    """A format: an `Example` for a good row, a `ValueError` with a sentence for any other, and nothing else."""

    reads: ClassVar[Sequence[Mapping[str, Any]]] = ()
    """Rows that the format must read; its `example` where there are none."""
    refuses: ClassVar[Sequence[Mapping[str, Any]]] = ({},)
    """Rows that it must refuse."""

    @override
    def context(self) -> FormatContext:
        return FormatContext(origin="rows.jsonl")

    @override
    def outcome(self, built: RowReader) -> Any:
        return [built(row, "rows.jsonl:1") for row in self._good()]

    def test_good_rows_are_read(self, instance: Any) -> None:
        """Each becomes an `Example` that knows where it came from; the raw row stays as it is."""
        read = instance.build(self.context())
        for line, row in enumerate(self._good(), start=1):
            before = copy.deepcopy(row)
            example = read(row, f"rows.jsonl:{line}")
            assert example.origin == f"rows.jsonl:{line}"
            assert row == before, "the raw row was changed"
            self._check_example(example)

    def test_a_row_that_notes_what_is_read_is_read_alike(self, instance: Any) -> None:
        """Rows come so from a run; something of each is looked up, or nobody could say which columns are read."""
        read = instance.build(self.context())
        for row in self._good():
            noted, _, _ = noted_row(row)
            assert read(noted, "rows.jsonl:1") == read(row, "rows.jsonl:1")
            assert noted.noted & row.keys(), "nothing of the row is looked up"

    def test_its_example_is_read(self) -> None:
        """All of `example`, a row that is not empty and that JSON can hold: `fttool formats` shows it."""
        row: Mapping[str, Any] = self.strategy.example
        assert row and json.loads(json.dumps(row)) == row, "the class needs an example: a row that it reads"
        noted, _, _ = noted_row(row)
        self._check_example(self.strategy(**self.options[0]).build(self.context())(noted, "rows.jsonl:1"))
        assert noted.noted >= noted.keys(), "a column of the example is not read"

    def test_it_recognises_its_own_rows(self, instance: Any) -> None:
        """Its example at least, and with a yes or no for any row that it reads: `auto` asks it."""
        if not self.strategy.chooses:
            form = self.strategy(**self.options[0])
            assert form.recognises(self.strategy.example) is True, "it does not take its example for one of its own"
            assert all(instance.recognises(row) in (True, False) for row in self._good())

    def _good(self) -> Sequence[Mapping[str, Any]]:
        return self.reads or [self.strategy.example]

    def test_bad_rows_are_refused_in_a_sentence(self, instance: Any) -> None:
        """A `ValueError` says what is wrong."""
        read = instance.build(self.context())
        for row in self.refuses:
            with pytest.raises(ValueError, match=r"\w+ \w+"):
                read(row, "rows.jsonl:1")

    def test_whatever_stands_in_a_row_is_read_or_refused(self, instance: Any) -> None:
        """Not a `KeyError`, `TypeError` or `AttributeError`: those would be reported as a fault of fttool."""
        read = instance.build(self.context())
        for row in self._good():
            for key in row:
                for odd in (None, 5, 0.5, True, "", "text", [], [None], [5], [[]], [{}], {}, {"role": None}):
                    try:
                        example = read({**row, key: odd}, "rows.jsonl:1")
                    except ValueError:
                        continue
                    self._check_example(example)

    def _check_example(self, example: Example) -> None:
        assert isinstance(example, Example)
        if example.messages:
            assert not example.prompt and not example.completion, "either messages or plain text"
            assert 0 <= example.completion_from < len(example.messages)
            assert example.unlearned <= set(range(len(example.messages))), "what is not learned is a turn"
            for message in example.messages:
                assert isinstance(message["role"], str), "a role is text"
                assert isinstance(message.get("content"), str | list | None), "content is text, or a list of parts"
        else:
            assert isinstance(example.prompt, str) and isinstance(example.completion, str)
        assert (example.labels is not None) == learns_labels(self.strategy), "level says whether rows have labels"
        learns_words = self.strategy.serves("word") and not self.strategy.chooses
        assert bool(example.words) == learns_words, "level is word where words have classes"
        if example.labels is not None:
            assert isinstance(example.second, str), "a second text is text"
            assert all(isinstance(label, str) and label for label in example.labels), "a class has a name"
        if example.words:
            assert len(example.words) == len(example.labels or ()), "each word has a class"
            borders = [place for word in example.words for place in word]
            assert borders == sorted(borders) and borders[-1] <= len(example.prompt), "words are in the text, in order"
            assert all(example.prompt[start:end].strip() for start, end in example.words), "a word is not blank"
        elif example.labels is not None:
            assert len(set(example.labels)) == len(example.labels), "a class occurs twice"
