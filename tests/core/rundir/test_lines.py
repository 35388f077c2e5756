"""Files of JSON lines: whole lines or none, whatever a crash or a full disk has done."""

import errno
import json
import os
import random
from pathlib import Path

import pytest

from fttool.errors import DiskError
from fttool.rundir import lines


def test_a_line_after_half_a_line_begins_on_its_own(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    lines.append(file, {"event": "started"})
    with file.open("ab") as cut:
        cut.write(b'{"event": "che')
    lines.append(file, {"event": "resumed"}, flushed=True)
    assert [line.values for line in lines.read(file, "event")] == [{"event": "started"}, None, {"event": "resumed"}]


@pytest.mark.parametrize("seed", range(20))
def test_a_file_that_is_cut_anywhere_loses_at_most_its_last_line(tmp_path: Path, seed: int) -> None:
    chance, file = random.Random(seed), tmp_path / "metrics.jsonl"
    for step in range(5):
        lines.append(file, {"step": step, "text": "ü\n" * chance.randrange(3)})
    whole = file.read_bytes()
    cut = chance.randrange(len(whole) + 1)
    file.write_bytes(whole[:cut])
    kept = whole[:cut].count(b"\n")
    found = lines.mend(file, "step")
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == list(range(kept))
    assert len(found) == (cut > 0 and whole[cut - 1 : cut] != b"\n")
    lines.append(file, {"step": 99})
    assert [line.values["step"] for line in lines.read(file, "step") if line.values] == [*range(kept), 99]


@pytest.mark.parametrize("bad", [b"\0\0\0\0", b"{", b"[1]", b'"step"', b"{}", b'{"step": 1', b"\xff\xfe", b""])
def test_a_damaged_line_is_moved_and_said_and_the_others_stay(tmp_path: Path, bad: bytes) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(b'{"step": 1}\n' + bad + b'\n{"step": 2}\n')
    (said,) = lines.mend(file, "step")
    assert f"line 2 of '{file}' is damaged" in said and "moved to metrics.jsonl.damaged" in said
    assert file.read_bytes() == b'{"step": 1}\n{"step": 2}\n'
    assert (tmp_path / "metrics.jsonl.damaged").read_bytes() == bad + b"\n"
    assert not lines.mend(file, "step")


def test_a_full_disk_leaves_no_half_line_and_says_how_much_was_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "metrics.jsonl"
    lines.append(file, {"step": 1})
    before = file.read_bytes()

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskError, match=r"metrics\.jsonl': no space is left on the disk; it takes about 12 bytes"):
        lines.append(file, {"step": 2}, flushed=True)
    assert file.read_bytes() == before
