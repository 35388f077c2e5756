"""What went wrong first, of all that is known of a run's processes once they have ended; and whether to try again.

Every launcher of the run judges by the same facts, so all of them say the same and do the same.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fttool.errors import ExitCode, Problem

STOPPED: dict[int, int] = {ExitCode.PREEMPTED: signal.SIGTERM, ExitCode.INTERRUPTED: signal.SIGINT}
"""Exit code of a process that has obeyed a signal, and which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How the processes of one machine have ended, as it goes from launcher to launcher."""

    codes: dict[str, int] = field(default_factory=dict[str, int])
    """Exit code by rank, of those that failed; −9 is SIGKILL."""
    reports: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """What they said of it: `worker.report`."""
    reaped: list[int] = field(default_factory=list[int])
    """Ranks that had to be killed here, as they did not leave when another one had failed."""
    asked: list[int] = field(default_factory=list[int])
    """Signals that the launcher was sent."""
    begun: bool = False
    """There is a run directory to resume."""
    finished: bool = False
    """All of them have ended well: a signal came too late to stop anything."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to answer, what to say, and whether another attempt may end better."""

    exit_code: int
    text: str = ""
    problems: Sequence[Problem] = ()
    """What a process has said, for programs; empty where the launcher speaks itself."""
    again: bool = False
    with_fewer_rows: bool = False
    """Memory ran out, and another attempt may end better with fewer rows at once."""


def judge(ended: Sequence[Ended | None], processes: int, here: int = 0) -> Verdict:
    """The verdict on an attempt, from what each machine says of it; None is one that no longer answers.

    `here` is the machine for whose reader the words are.
    """
    heard = [one for one in ended if one is not None]
    codes = {int(rank): code for one in heard for rank, code in one.codes.items()}
    obeyed = {STOPPED[code] for code in codes.values() if code in STOPPED}  # a process was sent it, not its launcher
    asked = {number for one in heard for number in one.asked} | obeyed
    reports = sorted((report for one in heard for report in one.reports), key=lambda report: report["time"])
    own = [report for report in reports if not report["lost_touch"]]
    mute = {rank: code for rank, code in codes.items() if code > 0 and code not in STOPPED}
    mute = {rank: code for rank, code in mute.items() if rank not in {report["rank"] for report in reports}}
    waited = any(report["lost_touch"] and re.search("timed out|timeout", report["text"].lower()) for report in reports)
    in_vain = waited or any(one.reaped for one in heard)
    silent, killed = _silent_and_killed(heard, codes, reports, asked, in_vain)
    again = len(heard) == len(ended) and not asked

    def process(rank: int) -> str:
        elsewhere = rank * len(ended) // processes != here
        return f"process {rank + 1} of {processes}{', on another node' if elsewhere else ''}"

    if all(one is not None and one.finished for one in ended):
        return Verdict(ExitCode.OK)
    if asked and not (own or killed or mute or in_vain):
        # All have saved and left the loop. The first to end takes the others for slow, or is missed by them.
        return Verdict(ExitCode.PREEMPTED if signal.SIGTERM in asked else ExitCode.INTERRUPTED)
    if own:
        verdict = _said(own[0], process, again and not own[0]["expected"])
        return replace(verdict, with_fewer_rows=again and own[0]["with_fewer_rows"])
    if killed:
        rank, number = next(iter(killed.items()))
        where = process(rank) + ("," if "," in process(rank) else "")
        text = f"{where} was killed by {_name(number)}\n    "
        text += "the system does this where memory runs out; " if number == signal.SIGKILL else ""
        text += "fttool run … --resume goes on from the newest checkpoint"
        return Verdict(ExitCode.FAILURE, text, again=again)
    if mute:
        rank, code = next(iter(mute.items()))
        return Verdict(code, f"{process(rank)} ended with exit code {code} and said nothing", again=again)
    if silent:
        which = " and ".join(map(process, silent))
        text = f"{which} did not answer the others within sharding.timeout, and had to be killed\n"
        text += "    what it printed, if anything, is "
        text += f"in logs/rank-{silent[0]}.log of the run directory" if silent[0] else "above"
        return Verdict(ExitCode.FAILURE, text, again=again)
    if len(heard) < len(ended):
        gone = ended.index(None)
        text = f"the launcher on node {gone} does not answer any more\n"
        text += "    what it said last is on its own screen; fttool run … --resume on all nodes goes on"
        return Verdict(ExitCode.FAILURE, text)
    if reports:
        return _said(reports[0], process, again)
    assert not codes, codes
    return Verdict(ExitCode.OK)


def _said(report: dict[str, Any], process: Any, again: bool) -> Verdict:
    text = f"{report['text']}\n    in {process(report['rank'])}"
    return Verdict(report["exit_code"], text, [Problem(**one) for one in report["problems"]], again)


def _name(number: int) -> str:
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"


def _silent_and_killed(
    heard: Sequence[Ended], codes: dict[int, int], reports: Sequence[dict[str, Any]], asked: set[int], in_vain: bool
) -> tuple[list[int], dict[int, int]]:
    """Ranks that no longer answered, and signals by rank of those that were killed by somebody else.

    SIGTERM is what torch's launcher sends to the others once one has ended. Where some have waited `in_vain`, it was
    sent to those that were waited for, and SIGABRT is how NCCL ends one that has waited.
    """
    reaped = {rank for one in heard for rank in one.reaped}
    others = any(code != -signal.SIGTERM for code in codes.values())
    closing = {signal.SIGTERM} if asked or others or in_vain else set[int]()
    expected = asked | closing | ({signal.SIGABRT} if in_vain else set[int]())
    killed = {rank: -code for rank, code in codes.items() if code < 0 and rank not in reaped and -code not in expected}
    spoken = {report["rank"] for report in reports}
    closed = {rank for rank, code in codes.items() if in_vain and code == -signal.SIGTERM}
    return sorted((reaped | closed) - spoken), killed
