"""What `fttool why` shows, and what it has for programs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fttool.verbs import aligned, counted
from fttool_plugins.verbs.compare.past import plain
from fttool_plugins.verbs.why.asking import Answer, Looked

if TYPE_CHECKING:
    from fttool_plugins.verbs.why.scoring import Scored

EXCERPT = 70
"""Characters of what is asked, and of what is said."""


def screen(given: Answer, most: int) -> Iterator[str]:
    """The worst rows of all updates, and why these were looked at."""
    shown = given.worst[:most]
    yield from (f"note  {note}" for note in given.notes)
    yield from aligned(
        [["row", "update", "loss", "share", "of the gradient", "× the median row"], *map(_figures, shown)]
    )
    yield ""
    theirs = [one for one in given.updates if any(row.update == one.asked.update for row in shown)]
    yield from aligned([["update", "rows", "scored at", "stands out by"], *map(_update, theirs)])
    if more := len(given.updates) - len(theirs):
        yield f"… and {counted(more, 'update')} more that stand out, none of whose rows is above"
    yield ""
    for row in shown:
        yield row.origin
        yield f"    {excerpts(row)}"
    if more := len(given.worst) - len(shown):
        yield f"… and {counted(more, 'row')} more: --rows N, or --json"
    yield "next  correct or drop them, and run again; --update N looks at one update alone"


def _update(one: Looked) -> list[str]:
    where = f"checkpoint-{one.step}" if one.step else "the start"
    return [str(one.asked.update), str(len(one.rows)), where, _standing(one)]


def _standing(one: Looked) -> str:
    """In words why this update."""
    spike = one.asked.spike
    if spike is None:
        return "as asked for"
    if not math.isfinite(spike.value):
        return f"its {spike.what} is not finite"
    return f"{spike.what} {spike.value:.4g}, usual {spike.usual:.4g} ({spike.distance:.1f} × the usual distance)"


def _figures(row: Scored) -> list[str]:
    mean = f"{row.loss / row.items:.3f}" if row.items else "0"
    if math.isinf(row.times):
        return [row.origin, str(row.update), mean, "–", "–", "not finite"]
    return [row.origin, str(row.update), mean, f"{row.loss_share:.1%}", f"{row.norm_share:.1%}", f"{row.times:.1f}"]


def excerpts(row: Scored) -> str:
    """The end of what is asked, and the beginning of what is learned."""
    asked, said = (" ".join(text.split()) for text in (row.asked, row.said))
    asked = asked if len(asked) <= EXCERPT else f"…{asked[1 - EXCERPT :]}"
    said = said if len(said) <= EXCERPT else f"{said[: EXCERPT - 1]}…"
    return " → ".join(filter(None, (asked, said)))


def as_data(run: Path, given: Answer) -> dict[str, Any]:
    """What `--json` prints; a figure that is not finite is text, as in `summary.json`."""
    return {
        "run": str(run),
        "notes": list(given.notes),
        "updates": [_as_update(one) for one in given.updates],
        "rows": [_as_row(row) for row in given.rows],
    }


def _as_update(one: Looked) -> dict[str, Any]:
    spike = one.asked.spike
    found = None
    if spike is not None:
        found = {
            "what": spike.what,
            "value": plain(spike.value),
            "usual": plain(spike.usual),
            "distance": plain(spike.distance),
            "updates": [spike.updates[0], spike.updates[-1]],
        }
    return {"update": one.asked.update, "rows": len(one.rows), "scored_at": one.step, "spike": found}


def _as_row(row: Scored) -> dict[str, Any]:
    return {
        "row": row.origin,
        "update": row.update,
        "items": row.items,
        "loss": plain(row.loss / row.items) if row.items else 0.0,
        "loss_share": plain(row.loss_share),
        "gradient_norm": plain(row.norm),
        "gradient_share": plain(row.norm_share),
        "times_median": plain(row.times),
        "asked": row.asked,
        "said": row.said,
    }
