"""What went wrong first, of all that is known of a run's processes once they have ended; and whether to try again.

Every launcher of the run judges by the same facts, so all of them say the same and do the same.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fttool.errors import ExitCode, Problem
from fttool.runs.stopping import FROM_OUTSIDE

STOPPED: dict[int, int] = {ExitCode.of_signal(number): number for number in (signal.SIGINT, *FROM_OUTSIDE)}
"""Exit code of a process that has obeyed a signal, and which."""
CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)
"""What a process brings upon itself, in native code; Python prints where it was."""


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
    """The same for programs."""
    again: bool = False
    with_fewer_rows: bool = False
    """Memory ran out, and another attempt may end better with fewer rows at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """What is known of an attempt, by rank where it is of a process."""

    codes: dict[int, int]
    asked: set[int]
    """Signals that were sent, to a launcher or to a process."""
    obeyed: set[int]
    """Those of them that a process was sent, and not its launcher."""
    reports: list[dict[str, Any]]
    """What processes said, the first one first."""
    own: list[dict[str, Any]]
    """Of those, what is about themselves, and not about others that were lost."""
    mute: dict[int, int]
    """Exit codes of those that failed and said nothing."""
    silent: list[int]
    """Ranks that did not answer any more."""
    killed: dict[int, int]
    """Signals that ended processes from outside."""
    gone: list[int]
    """Machines that do not answer."""
    in_vain: bool
    """Some have given up waiting for others."""

    @classmethod
    def of(cls, ended: Sequence[Ended | None]) -> _Facts:
        """From what each machine says of the attempt."""
        heard = [ending for ending in ended if ending is not None]
        codes = {int(rank): code for ending in heard for rank, code in ending.codes.items()}
        obeyed = {STOPPED[code] for code in codes.values() if code in STOPPED}
        asked = {number for ending in heard for number in ending.asked} | obeyed
        reports = sorted((report for ending in heard for report in ending.reports), key=lambda report: report["time"])
        spoken = {report["rank"] for report in reports}
        in_vain = any(ending.reaped for ending in heard) or any(map(_waited, reports))
        mute = {rank: code for rank, code in codes.items() if code > 0 and code not in STOPPED and rank not in spoken}
        silent, killed = _silent_and_killed(heard, codes, spoken, asked, in_vain)
        gone = [node for node, ending in enumerate(ended) if ending is None]
        if mute or gone or obeyed or set(killed.values()) - {signal.SIGABRT}:
            # NCCL ends those that are left after so, and torch's threads one that is about to end by itself.
            killed = {rank: number for rank, number in killed.items() if number != signal.SIGABRT}
        return cls(
            codes=codes,
            asked=asked,
            obeyed=obeyed,
            reports=reports,
            own=[report for report in reports if not report["lost_touch"]],
            mute=mute,
            silent=silent,
            killed=killed,
            gone=gone,
            in_vain=in_vain,
        )


def judge(ended: Sequence[Ended | None], processes: int, here: int = 0) -> Verdict:
    """The verdict on an attempt, from what each machine says of it; None is one that no longer answers.

    `here` is the machine for whose reader the words are.
    """
    if ended[0] is not None and ended[0].finished:  # and with its first processes the run
        return Verdict(ExitCode.OK)
    heard, facts = [ending for ending in ended if ending is not None], _Facts.of(ended)
    again = not facts.gone and not facts.asked

    def process(rank: int) -> str:
        elsewhere = rank * len(ended) // processes != here
        return f"process {rank + 1} of {processes}{', on another node,' if elsewhere else ''}"

    before_the_start = any(ending.asked and not ending.codes and not ending.finished for ending in heard)
    waited, failed = facts.in_vain or facts.gone, facts.own or facts.killed or facts.mute
    if facts.asked and not failed and (facts.obeyed or before_the_start or not waited):
        # All have saved and left the loop. The first to end takes the others for slow, or is missed by them.
        return Verdict(ExitCode.of_signal(max(facts.asked)))  # of several, the one that a scheduler sends
    if facts.own:
        first = facts.own[0]
        verdict = _said(first, process, again and not first["expected"])
        return replace(verdict, with_fewer_rows=again and first["with_fewer_rows"])
    if facts.killed:
        return _of_killed(facts.killed, process, again, begun=any(ending.begun for ending in heard))
    return _of_silence(facts, process, again)


def _of_killed(killed: dict[int, int], process: Callable[[int], str], again: bool, *, begun: bool) -> Verdict:
    """Of a process that the system, somebody else, or a fault in native code has ended."""
    rank, number = next(iter(killed.items()))
    why = ""
    if number == signal.SIGKILL:
        why = "the system does this where memory runs out; "
    elif number in CRASHES and (rank == 0 or begun):  # else its log was not kept
        why = f"its stack trace is {_printed(rank)}; "
    hint = f"{why}fttool run … --resume goes on from the newest checkpoint"
    return _found(ExitCode.FAILURE, f"{process(rank)} was killed by {_name(number)}", hint, again)


def _of_silence(facts: _Facts, process: Callable[[int], str], again: bool) -> Verdict:
    """Where no process has said what was wrong with itself: of those that said nothing, or did not answer."""
    if facts.mute:
        rank, code = next(iter(facts.mute.items()))
        return _found(code, f"{process(rank)} ended with exit code {code} without a message", "", again)
    if facts.silent:
        which = " and ".join(map(process, facts.silent))
        message = f"{which} did not answer the others within sharding.timeout, and had to be killed"
        hint = f"what it printed, if anything, is {_printed(facts.silent[0])}"
        return _found(ExitCode.FAILURE, message, hint, again)
    if facts.gone:
        hint = "what it said last is on its own screen; fttool run … --resume on all nodes goes on"
        return _found(ExitCode.FAILURE, f"the launcher on node {facts.gone[0]} does not answer any more", hint, False)
    if facts.reports:
        return _said(facts.reports[0], process, again)
    assert not facts.codes, facts.codes
    return Verdict(ExitCode.OK)


def _found(exit_code: int, message: str, hint: str, again: bool) -> Verdict:
    """What the launcher has found, as none of the processes has said it."""
    problem = Problem(message, hint=hint)
    return Verdict(exit_code, str(problem), [problem], again)


def _said(report: dict[str, Any], process: Callable[[int], str], again: bool) -> Verdict:
    text = f"{report['text']}\n    in {process(report['rank']).rstrip(',')}"
    return Verdict(report["exit_code"], text, [Problem(**problem) for problem in report["problems"]], again)


def _printed(rank: int) -> str:
    return f"in logs/rank-{rank}.log of the run directory" if rank else "on the first node's screen"


def _waited(report: dict[str, Any]) -> bool:
    """True where a process has given up waiting for the others."""
    return report["lost_touch"] and re.search("timed out|timeout", report["problems"][0]["message"].lower()) is not None


def _name(number: int) -> str:
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"


def _silent_and_killed(
    heard: Sequence[Ended], codes: dict[int, int], spoken: set[int], asked: set[int], in_vain: bool
) -> tuple[list[int], dict[int, int]]:
    """Ranks that no longer answered, and signals by rank of those that were killed by somebody else.

    SIGTERM is what torch's launcher sends to the others once one has ended. Where some have waited `in_vain`, it was
    sent to those that were waited for, and SIGABRT is how NCCL ends one that has waited.
    """
    reaped = {rank for ending in heard for rank in ending.reaped}
    others = any(code != -signal.SIGTERM for code in codes.values())
    closing = {signal.SIGTERM} if asked or others or in_vain else set[int]()
    expected = asked | closing | ({signal.SIGABRT} if in_vain else set[int]())
    left = {rank: code for rank, code in codes.items() if rank not in reaped | spoken}
    killed = {rank: -code for rank, code in left.items() if code < 0 and -code not in expected}
    closed = {rank for rank, code in codes.items() if in_vain and code == -signal.SIGTERM}
    return sorted((reaped | closed) - spoken), killed
