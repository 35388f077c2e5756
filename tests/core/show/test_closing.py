"""The closing screen, line by line, of summaries that are made up."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fttool.show.closing import text

SUMMARY: dict[str, Any] = {
    "status": "finished",
    "steps": 7,
    "total_steps": 9,
    "stopped_early": False,
    "best": None,
    "eval": {"before": {}, "after": {}},
    "retention": {"before": {}, "after": {}},
    "better_is": {"loss": "lower", "accuracy": "higher"},
    "metric_remarks": {},
    "tables": {},
    "train_rows": 1,
    "train_tokens": 1200,
    "label_tokens": 345,
    "tokens_per_second": 6789.4,
    "answering": {},
    "skipped_updates": 0,
    **{f"{fate}_rows": {} for fate in ("dropped", "changed", "flagged", "windowed")},
    "dropped_tokens": {},
    "truncated_rows": 0,
    "lost": {},
    "row_remarks": {},
    "samples": [],
}
SEEN = "  1 row, 1,200 tokens seen, 345 labels learned, 6,789 tokens/s"
SAVED = ["", "  model  runs/r/model", "  try    fttool generate runs/r"]


@pytest.fixture
def screen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The lines between the first one, which says how far the run came, and where the model is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "50")

    def lines(*, by: str | None = None, saves: bool = True, targets: Any = None, **summary: Any) -> list[str]:
        evaluation = SimpleNamespace(best=by, metrics=[SimpleNamespace(id=lambda: "loss")], early_stopping=1)
        loaded = SimpleNamespace(
            name="r",
            path=Path("my recipe.toml"),
            overrides=("run.name=r",),
            recipe=SimpleNamespace(evaluation=evaluation),
        )
        prepared = SimpleNamespace(
            loaded=loaded,
            parts=SimpleNamespace(targets=targets, try_it="generate {run}"),
            trainer=SimpleNamespace(job=SimpleNamespace(output=SimpleNamespace(saves=saves))),
        )
        folder = tmp_path / "runs" / "r"
        record = SimpleNamespace(path=folder, model=folder / "model")
        ended: Any = SimpleNamespace(prepared=prepared, record=record, summary={**SUMMARY, **summary})
        return text(ended).splitlines()[1:]

    return lines


def test_a_plain_run(screen: Any) -> None:
    assert screen() == ["r: finished after 7 of 9 updates", SEEN, *SAVED]


def test_where_it_ended_otherwise(screen: Any) -> None:
    assert screen(status="interrupted")[-1] == "  go on  fttool run 'my recipe.toml' --set run.name=r --resume"
    assert screen(saves=False)[-1] == "  saved  no model; the log is in runs/r"


@pytest.mark.parametrize(
    ("best", "since"),
    [
        (None, "at all"),
        ({"step": 4, "value": 1.5}, "since update 4"),
        ({"step": 0, "value": 1.5}, "than before the first"),
    ],
)
def test_why_it_stopped_early(screen: Any, best: Any, since: str) -> None:
    said = screen(stopped_early=True, best=best)[1]
    assert said.startswith(f"  stopped early: loss was no better {since}") and said.endswith("in 1 evaluation in a row")


@pytest.mark.parametrize(("named", "model"), [(None, "the last update's"), ("loss", "the one before the first update")])
def test_a_run_that_made_nothing_better_says_which_model_is_saved(screen: Any, named: Any, model: str) -> None:
    (said,) = screen(best={"step": 0, "value": 1.5}, by=named)[1:2]
    assert (
        said
        == f"  worse, or no better: no evaluation had a better loss than before training (1.5000); the model is {model}"
    )


def test_what_became_of_rows(screen: Any) -> None:
    said = screen(
        dropped_rows={"too long": 2, "empty": 1},
        dropped_tokens={"too long": 1},
        flagged_rows={"has an IBAN": 3},
        truncated_rows=1,
        lost={"tokens": 40, "words": 1},
        windowed_rows={"rows": 1, "parts": 1234},
        row_remarks={"teaching an empty thought": 2},
        skipped_updates=3,
        answering={"answers": 1000, "tokens": 20000, "seconds": 1.26, "one_by_one": "it takes no padding"},
        targets=object(),
    )
    assert said[2:-3] == [
        "  generated for metrics: 1,000 answers, 20,000 tokens in 1.3 s, one by one: it takes no padding",
        "  loss scaling skipped 3 of 7 updates",
        "  dropped rows: 2 too long (1 token), 1 empty",
        "  flagged rows: 3 has an IBAN",
        "  cut at max_length: 1 row (40 tokens and 1 word lost); what is cut off is not read",
        "  longer than max_length: 1 row split into 1,234",
        "  2 rows teaching an empty thought",
    ]


def test_numbers_tables_and_remarks(screen: Any) -> None:
    tables = {"by class": [["class", "f1"], ["ham", 0.5]], "long": [["row"], *([["x"]] * 30)], "wide": [["a" * 101]]}
    measured = {"before": {"accuracy": 0.25}, "after": {"accuracy": 0.5, "loss": 1.0}}
    said = screen(eval=measured, tables=tables, metric_remarks={"accuracy": "of one class"})
    assert said[1:-4] == [
        "  accuracy            0.2500 → 0.5000",
        "  loss                   nan → 1.0000",
        "  accuracy: of one class",
        "",
        "  by class",
        "    class      f1",
        "    ham    0.5000",
        "",
        "  long",
        "    30 rows, in summary.json",
        "",
        "  wide",
        "    0 rows, in summary.json",
        "",
    ]


def test_samples_stand_side_by_side(screen: Any) -> None:
    sample = {"question": "Why " * 30, "expected": "spam", "before": "", "after": "one two " * 30}
    said = screen(samples=[sample], targets=object())[3:-3]
    assert said[0].startswith("  > Why Why") and said[0].endswith(" …  [spam]") and len(said[0]) <= 50
    assert [line.index("│") for line in said[1:]] == [25] * 6 and all(len(line) <= 50 for line in said[1:])
    assert said[2].startswith("  (nothing)") and said[-1].endswith(" …")
    assert "[spam]" not in "".join(screen(samples=[sample]))
