"""What a disk refuses becomes words with the path and the bytes, whatever library was writing."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fttool import disk
from fttool.cli import main
from fttool.errors import DiskError, UsageError


@pytest.mark.parametrize("number", list(disk.REFUSALS))
def test_each_refusal_has_words(tmp_path: Path, number: int) -> None:
    with pytest.raises(DiskError) as said, disk.writing(tmp_path / "file", needed=123):
        raise OSError(number, os.strerror(number))
    assert disk.REFUSALS[number] in str(said.value) and f"'{tmp_path / 'file'}'" in str(said.value)
    assert "it takes about 123 bytes" in str(said.value) and said.value.exit_code == 9


def test_what_is_not_the_disks_fault_comes_through(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), disk.writing(tmp_path / "file"):
        raise PermissionError(errno.EACCES, "Permission denied")
    with pytest.raises(ValueError, match="else"), disk.writing(tmp_path / "file"):
        raise ValueError("something else")
    with pytest.raises(UsageError), disk.writing(tmp_path / "file"):
        raise UsageError("said already")


SMALL_DISK = """
import sys, torch
from pathlib import Path
from safetensors.torch import save_file
from fttool import disk
from fttool.cli import main
from fttool.errors import DiskError

file = Path(sys.argv[1]) / "file"
state = {"a": torch.rand(10**6)}
ways = {
    "python": lambda: file.write_bytes(bytes(4 * 10**6)),
    "safetensors": lambda: save_file(state, file),
    "torch": lambda: torch.save(state, file),
}
for name, write in ways.items():
    try:
        with disk.writing(file, needed=4 * 10**6):
            write()
        print(name, "was written")
    except DiskError as error:
        print(name, error.exit_code, error)
    file.unlink(missing_ok=True)
"""


@pytest.mark.full
def test_a_library_that_hides_the_reason_is_seen_through(tmp_path: Path) -> None:
    """On a disk of 3 MB: a small file system in memory, where this user may mount one."""
    mount = f"mount -t tmpfs -o size=3m none {tmp_path} && exec {sys.executable} - {tmp_path}"
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("this user may mount nothing")
    found = subprocess.run(["unshare", "-rm", "sh", "-c", mount], input=SMALL_DISK, capture_output=True, text=True)
    lines = [line for line in found.stdout.splitlines() if not line.startswith(" ")]
    assert [line.split()[:2] for line in lines] == [["python", "9"], ["safetensors", "9"], ["torch", "9"]], found
    assert all("no space is left on the disk; it takes about 4,000,000 bytes and" in line for line in lines)


def test_where_a_library_says_nothing_of_the_disk_the_disk_is_asked(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="no space is left"), disk.writing(tmp_path / "model", needed=2**62):
        raise RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0")


def test_a_file_is_whole_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "summary.json"
    disk.write_atomically(file, "before")

    def full(path: Path) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(disk, "flush", full)
    with pytest.raises(DiskError, match="quota"):
        disk.write_atomically(file, "after")
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"] and file.read_text() == "before"


def test_a_damaged_a_missing_and_a_whole_file(tmp_path: Path) -> None:
    for name in ("whole", "damaged", "missing"):
        (tmp_path / name).write_text(name)
    expected = disk.hashes(tmp_path)
    (tmp_path / "damaged").write_text("DAMAGED")
    (tmp_path / "missing").unlink()
    assert disk.damaged(tmp_path, expected) == ["damaged", "missing"]


def test_the_command_line_says_it_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def full(words: list[str]) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "my.toml")

    monkeypatch.setattr("fttool.cli._answer", full)
    assert main(["init", "my.toml"]) == 9
    assert "cannot write 'my.toml': no space is left on the disk" in capsys.readouterr().err
