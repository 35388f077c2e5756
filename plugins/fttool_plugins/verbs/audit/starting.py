"""The model that training begins with, asked how hard the rows are for it: its loss before any training."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from fttool.api import FttoolError
from fttool.verbs import Loaded, Surveyed, evaluate, measuring, metrics_for
from fttool_plugins.verbs.audit.gains import raw_rows
from fttool_plugins.verbs.audit.indicators import difficulty
from fttool_plugins.verbs.audit.report import Indicator

ASKED = 64
"""Rows that go through the model."""
UNASKED = "needs a pass of the starting model over some rows: --difficulty"


def asked(loaded: Loaded, datasets: Sequence[Surveyed], model: str, *, quiet: bool) -> Indicator:
    """The mean loss on a sample of the training rows, as `fttool evaluate` measures it; else why there is none."""
    metrics = [metric for metric in metrics_for(loaded, generating=False) if metric.id() == "loss"]
    train = [one for one in datasets if one.part == "train"]
    every = [(one, example.origin) for one in train for example in one.examples]
    chosen = {origin for _, origin in random.Random(loaded.recipe.run.seed).sample(every, min(ASKED, len(every)))}
    total, rows = 0.0, 0
    try:
        with TemporaryDirectory(prefix="fttool-audit-") as folder:
            for number, one in enumerate(train):
                file = Path(folder) / f"{number}.jsonl"
                raw = raw_rows(loaded, one, chosen)
                if not raw:
                    continue
                file.write_text("".join(json.dumps(row) + "\n" for _, row in raw), encoding="utf-8")
                (found,) = evaluate(measuring(loaded, [file], metrics), own=False, quiet=quiet).measured
                total, rows = total + found.values["loss"] * found.rows, rows + found.rows
    except FttoolError as error:
        return difficulty(None, 0, model, f"not measured: {error.problems[0].message}")
    return difficulty(total / rows if rows else None, rows, model)
