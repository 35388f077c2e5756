"""The verdict on an attempt, from what each machine says of it."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from fttool.launch.verdict import Ended, judge


def report(rank: int, *, lost_touch: bool = False, expected: bool = False, text: str = "a bug") -> dict[str, Any]:
    said = {"rank": rank, "time": float(rank), "lost_touch": lost_touch, "expected": expected, "text": text}
    said |= {"with_fewer_rows": False, "problems": [{"message": text, "where": "", "hint": ""}]}
    return {**said, "exit_code": 4 if expected else 1}


LOST = report(0, lost_touch=True, text="gloo: closed by peer")
TIMED_OUT = report(0, lost_touch=True, text="gloo: timed out waiting")


@pytest.mark.parametrize(
    ("ended", "code", "text", "again"),
    [
        ([Ended(), Ended()], 0, "", False),
        ([Ended(codes={"0": 1}, reports=[LOST]), Ended(codes={"1": 1}, reports=[report(1)])], 1, "a bug", True),
        ([Ended(codes={"0": 1}, reports=[LOST]), Ended(codes={"1": -9})], 1, "node, was killed by SIGKILL", True),
        ([Ended(codes={"0": 4}, reports=[report(0, expected=True)]), Ended(codes={"1": -9})], 4, "a bug", False),
        ([Ended(codes={"0": 1}, reports=[TIMED_OUT]), Ended(codes={"1": -9}, reaped=[1])], 1, "did not answer", True),
        ([Ended(codes={"0": 1}, reports=[TIMED_OUT]), Ended(codes={"1": -15})], 1, "did not answer", True),
        ([Ended(codes={"0": -6}), Ended(codes={"1": -9}, reaped=[1])], 1, "did not answer", True),  # as NCCL ends one
        ([Ended(codes={"0": -9}), Ended(codes={"1": -9}, reaped=[1])], 1, "process 1 of 2 was killed by", True),
        ([Ended(codes={"0": 1}, reports=[LOST]), None], 1, "launcher on node 1 does not answer", False),
        ([Ended(codes={"0": -9}), None], 1, "was killed by SIGKILL", False),
        ([Ended(codes={"0": 143}, asked=[15]), Ended(codes={"1": 143})], 143, "", False),
        ([Ended(codes={"0": 130}), Ended(codes={"1": -15})], 130, "", False),  # one was sent it; the other ends last
        ([Ended(codes={"0": -9}, asked=[15]), Ended(codes={"1": 143})], 1, "was killed by SIGKILL", False),
        ([Ended(codes={"0": 3}), Ended()], 3, "exit code 3 without a message", True),
        ([Ended(codes={"0": -15}), Ended(codes={"1": 3})], 3, "process 2 of 2, on another node, ended with exit", True),
        ([Ended(codes={"1": 3}, reaped=[0]), Ended()], 3, "exit code 3 without a message", True),  # NCCL stays stuck
        ([Ended(codes={"0": -15}), Ended(codes={"1": -9})], 1, "process 2 of 2, on another node, was killed by", True),
        ([Ended(codes={"0": -11}), Ended(codes={"1": -15})], 1, "SIGSEGV\n    its stack trace is on the first", True),
        ([Ended(codes={"1": -11}, begun=True), Ended()], 1, "SIGSEGV\n    its stack trace is in logs/rank-1.log", True),
        ([Ended(codes={"1": -11}), Ended()], 1, "SIGSEGV\n    fttool run", True),  # no run directory, and so no log
        ([Ended(codes={"0": -35}), Ended()], 1, "was killed by signal 35", True),
        ([Ended(codes={"0": -15}, reaped=[1], asked=[15]), Ended(codes={"1": -9})], 1, "did not answer", False),
        ([Ended(asked=[15], finished=True), Ended(finished=True)], 0, "", False),  # asked too late
        ([Ended(finished=True), Ended(codes={"1": -6})], 0, "", False),  # aborted at its exit: all was done
        ([Ended(codes={"0": 130, "1": -9}, reaped=[1], asked=[2, 2]), Ended()], 130, "", False),  # twice, and one stuck
        ([Ended(asked=[15]), Ended(codes={"1": -9}, reaped=[1])], 143, "", False),  # before the start
        ([Ended(codes={"0": -6}), Ended(codes={"1": -9})], 1, "process 2 of 2, on another node, was killed by", True),
        ([Ended(codes={"0": 143, "1": -6}, asked=[15]), Ended()], 143, "", False),  # aborted at its exit
        ([Ended(codes={"0": -6}), Ended(codes={"1": 3})], 3, "exit code 3 without a message", True),
        ([Ended(codes={"0": -6}, reports=[LOST]), None], 1, "launcher on node 1 does not answer", False),
        ([Ended(codes={"0": 1}, reports=[LOST], asked=[15]), None], 1, "launcher on node 1 does not answer", False),
    ],
)
def test_what_went_wrong_first(ended: list[Ended | None], code: int, text: str, again: bool) -> None:
    verdict = judge(ended, processes=2)
    assert (verdict.exit_code, verdict.again) == (code, again)
    assert text in verdict.text and bool(text) == bool(verdict.text)


def test_whatever_has_happened_there_is_a_verdict() -> None:
    """And none of success where the run has not finished."""
    codes: list[dict[str, int]] = [{}, *({"0": code} for code in (1, 3, 130, 143, -2, -6, -9, -11, -15, -35))]
    said = [[], [LOST], [TIMED_OUT], [report(0)], [report(0, expected=True)]]
    first = [
        Ended(codes=one, reports=reports if one else [], reaped=reaped, asked=asked, finished=finished and not one)
        for one, reports, reaped, asked, finished in product(codes, said, ([], [0]), ([], [2], [15]), (False, True))
    ]
    second = [None, Ended(), Ended(finished=True), Ended(codes={"1": -9}), Ended(codes={"1": -15}, reaped=[1])]
    for one, other in product(first, second):
        verdict = judge([one, other], processes=2)
        failed = bool(one.codes or (other is not None and other.codes)) and not one.finished
        assert bool(verdict.exit_code) or not failed, (one, other)
        assert bool(verdict.text) == bool(verdict.problems), (one, other)
