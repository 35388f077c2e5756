"""Every installed filter is asked about the training rows, each by itself: what one drops, the others see too."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from fttool.api import Example, Filter, FttoolError, Kept
from fttool.verbs import Judge, gist
from fttool_plugins.verbs.audit.counting import SHOWN, excerpt
from fttool_plugins.verbs.audit.report import Shown, Suspects

SLOW = "computes with a model: --slow asks it too"


def asked(
    filters: Sequence[Filter],
    absent: Mapping[str, str],
    judge: Judge,
    examples: Sequence[Example],
    *,
    slow: bool = False,
) -> tuple[list[Suspects], dict[str, str]]:
    """What each filter says, the one that suspects most first; and those that said nothing, the `absent` ones with
    them, by id, with the reason.
    """
    said: list[tuple[Filter, Mapping[int, str]]] = []
    not_run = dict(absent)
    for strategy in filters:
        if strategy.slow and not slow:
            not_run[strategy.id()] = SLOW
            continue
        try:
            verdicts = judge(strategy, examples)
        except FttoolError as error:
            hint = f" ({error.problems[0].hint})" if error.problems[0].hint else ""
            not_run[strategy.id()] = f"{error.problems[0].message}{hint}"
        except ImportError as fault:
            not_run[strategy.id()] = f"needs the package {fault.name or gist(fault)}, which is not installed"
        except Exception as fault:  # a filter of anybody's: the others are asked all the same
            not_run[strategy.id()] = f"it raised {gist(fault)}"
        else:
            said.append((strategy, {place: words(one) for place, one in enumerate(verdicts) if one is not None}))
    suspected: dict[int, list[str]] = defaultdict(list)
    for strategy, reasons in said:
        for place in reasons:
            suspected[place].append(strategy.id())
    found = [_suspects(strategy, reasons, examples, suspected) for strategy, reasons in said]
    return sorted(found, key=lambda suspects: -suspects.rows), not_run


def words(verdict: str | Kept) -> str:
    """Those of a verdict, whatever is to become of the row; perhaps a `Reason`."""
    return verdict.reason if isinstance(verdict, Kept) else verdict


def _suspects(
    strategy: Filter, reasons: Mapping[int, str], examples: Sequence[Example], suspected: Mapping[int, Sequence[str]]
) -> Suspects:
    """What one filter says; `reasons` and `suspected` are by the rows' places."""

    def badness(place: int) -> tuple[float, int, int]:
        return -float(getattr(reasons[place], "severity", 0)), -len(suspected[place]), place

    return Suspects(
        filter=strategy.id(),
        about=about(type(strategy)),
        rows=len(reasons),
        share=len(reasons) / len(examples) if examples else 0.0,
        reasons=dict(Counter(map(str, reasons.values())).most_common()),
        worst=[
            Shown(
                row=examples[place].origin,
                excerpt=excerpt(examples[place]),
                reason=str(reasons[place]),
                like=str(getattr(reasons[place], "like", "")),
                also=[name for name in dict.fromkeys(suspected[place]) if name != strategy.id()],
            )
            for place in sorted(reasons, key=badness)[:SHOWN]
        ],
        origins=frozenset(examples[place].origin for place in reasons),
    )


def about(kind: type[Filter]) -> str:
    """The first sentence of a filter's docstring."""
    paragraph = " ".join((kind.__doc__ or "").partition("\n\n")[0].split())
    return paragraph.partition(". ")[0].rstrip(".")
