"""Output that nobody reads any more ends no run, and lets what only prints end quietly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from tomli_w import dumps

from fttool.streams import lost_readers, patient


def write_recipe(folder: Path) -> Path:
    talk = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
    (folder / "rows.jsonl").write_text((json.dumps({"messages": talk}) + "\n") * 8, encoding="utf-8")
    recipe = {
        "recipe": 1,
        "run": {"max_steps": 3, "log_every": 1, "output": str(folder / "runs"), "name": "r"},
        "model": {"source": "builtin:tiny-chat"},
        "data": {"train": [{"path": "rows.jsonl", "format": "messages"}]},
    }
    (folder / "r.toml").write_text(dumps(recipe), encoding="utf-8")
    return folder / "r.toml"


def fttool(*words: object, **more: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "fttool", *map(str, words)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, **more)


@pytest.mark.full
@pytest.mark.parametrize("words", [[], ["--json"]])
def test_a_run_goes_on_when_its_readers_have_gone(tmp_path: Path, words: list[str]) -> None:
    process = fttool("run", write_recipe(tmp_path), *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    (process.stdout if words else process.stderr).readline()  # it has begun
    process.stdout.close()
    process.stderr.close()
    assert process.wait(120) == 0
    assert json.loads((tmp_path / "runs" / "r" / "summary.json").read_text())["status"] == "finished"
    events = [json.loads(line) for line in (tmp_path / "runs" / "r" / "events.jsonl").read_text().splitlines()]
    (unread,) = [event for event in events if event["event"] == "output_unread"]
    assert unread["stream"] == ("stdout" if words else "stderr") and unread["since"] <= unread["time"]
    assert (tmp_path / "runs" / "r" / "model" / "model.safetensors").is_file()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no disk that is always full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_the_full_disk_of_a_log(monkeypatch: pytest.MonkeyPatch, unbuffered: str) -> None:
    """Lets a run go on; what only prints says that it could not, whether a line is written at once or at the end."""
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        for words in (["plugins"], ["--version"]):
            process = fttool(*words, stdout=full, stderr=subprocess.PIPE)
            _, said = process.communicate(timeout=60)
            assert process.returncode == 9 and b"no space is left on the disk" in said and b"run.output" not in said
        monkeypatch.setattr(sys, "stderr", full)
        with patient("stderr"):
            print("a line", file=sys.stderr, flush=True)
            assert lost_readers().keys() == {"stderr"}


@pytest.mark.full
def test_a_run_without_any_output_writes_into_no_other_file(tmp_path: Path) -> None:
    """What a shell writes as `>&- 2>&-`: the first files that the run opens would become its output."""
    code = "import os, sys; [os.close(n) for n in (0, 1, 2)]; os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    words = [sys.executable, "-c", code, "-m", "fttool", "run", str(write_recipe(tmp_path))]
    assert subprocess.run(words, timeout=120).returncode == 0
    for line in (tmp_path / "runs" / "r" / "metrics.jsonl").read_text().splitlines():
        assert "step" in json.loads(line)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [["schema"], ["plugins"], ["--help"], ["plugins", "show", "wsd"]])
def test_what_only_prints_ends_quietly(monkeypatch: pytest.MonkeyPatch, words: list[str], unbuffered: str) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    reading, writing = os.pipe()
    os.close(reading)
    process = fttool(*words, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, b"")


def test_an_error_whose_reader_has_gone_keeps_its_exit_code(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = fttool("validate", tmp_path / "none.toml", stdout=subprocess.DEVNULL, stderr=writing)
    os.close(writing)
    assert process.wait(60) == 3


def test_what_was_read_in_time_has_come_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    stream = open(writing, "w", encoding="utf-8")  # noqa: SIM115, PTH123
    monkeypatch.setattr(sys, "stdout", stream)
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(os.read(reading, 2**16)))
    reader.start()
    with patient("stdout"):
        assert lost_readers() == {}
        print("é one", flush=True)
        reader.join()
        os.close(reading)
        for _ in range(3):
            print("two" * 100_000, flush=True)
    assert sys.stdout is stream and lost_readers().keys() == {"stdout"}
    stream.close()
    assert found == ["é one\n".encode()]
