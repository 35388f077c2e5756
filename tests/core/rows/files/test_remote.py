"""Files over the network: fsspec's own memory, and a plain HTTP server on loopback that counts what it is asked."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import fsspec
import pytest
import tomli
from tomli_w import dumps

from fttool.cli import main
from fttool.contracts.recipe import RowsTable
from fttool.errors import DataError
from fttool.recipe.reading import load
from fttool.rows.files import remote
from fttool.rows.files.source import named_paths
from fttool.rows.raw import raw_rows
from fttool.testing import run_recipe

ROWS = [{"messages": [{"role": "user", "content": f"Q{n}?"}, {"role": "assistant", "content": "A."}]} for n in range(6)]


@pytest.fixture(autouse=True)
def a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """That is allowed, with a cache of its own and nothing asked yet."""
    for name in remote.OFFLINE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(remote, "SET_HERE", set())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "ASKED_AGAIN", -1.0)
    remote._answers.clear()
    yield
    fsspec.filesystem("memory").store.clear()
    remote._answers.clear()


def lines(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def put(address: str, content: bytes) -> str:
    with fsspec.open(address, "wb") as file:
        file.write(content)
    return address


def recipe(recipe: dict[str, Any], *paths: str, **table: Any) -> dict[str, Any]:
    return {**recipe, "data": {"train": [{"path": [*paths], **table}]}}


def refused(address: str) -> str:
    with pytest.raises(DataError) as caught:
        named_paths(Path(), [address])
    return str(caught.value)


def test_a_run_reads_and_notes_addresses(fttool_recipe: dict[str, Any], tmp_path: Path) -> None:
    """Rows are hashed like others, and are at their address; nothing of the cache is in the run's directory."""
    put("memory://bucket/rows-1.jsonl", lines(ROWS[:3]))
    put("memory://bucket/rows-2.jsonl", lines(ROWS[3:]))
    (tmp_path / "here.jsonl").write_bytes(lines(ROWS))
    asked = recipe(fttool_recipe, "memory://bucket/rows-*.jsonl", "here.jsonl", name="both")
    result = run_recipe({**asked, "filters": ["exact-duplicates"]}, tmp_path)
    assert result.exit_code == 0, result.error
    (source,) = json.loads((result.run_dir / "lock.json").read_text())["files"]
    places = ["memory://bucket/rows-1.jsonl", "memory://bucket/rows-2.jsonl", str(tmp_path / "here.jsonl")]
    assert source["source"].split(", ") == places
    gone = [json.loads(line) for line in (result.run_dir / "dropped.jsonl").read_text().splitlines()]
    assert {row["row"] for row in gone} == {f"{tmp_path / 'here.jsonl'}:{line}" for line in range(1, 7)}
    assert all("memory://bucket/rows-" in row["like"] for row in gone)
    for file in result.run_dir.rglob("*"):
        assert not file.is_file() or str(tmp_path / "cache").encode() not in file.read_bytes(), file
    resolved = tomli.loads((result.run_dir / "recipe.resolved.toml").read_text())
    assert resolved["data"]["train"][0]["path"][0] == "memory://bucket/rows-*.jsonl"


def test_a_broken_row_is_at_its_address(fttool_recipe: dict[str, Any], tmp_path: Path) -> None:
    put("memory://bucket/rows.jsonl", lines(ROWS) + b"{broken\n")
    (tmp_path / "my.toml").write_text(dumps(recipe(fttool_recipe, "memory://bucket/rows.jsonl")))
    loaded = load(tmp_path / "my.toml")
    with pytest.raises(DataError) as caught:
        list(raw_rows(loaded, loaded.recipe.data.train[0]))
    assert [problem.where for problem in caught.value.problems] == ["memory://bucket/rows.jsonl:7"]
    assert str(tmp_path) not in str(caught.value)


def test_a_version_is_fetched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []
    kind = fsspec.get_filesystem_class("memory")
    original = kind.get_file

    def counting(self: Any, address: str, *rest: Any, **more: Any) -> Any:
        fetched.append(address)
        return original(self, address, *rest, **more)

    monkeypatch.setattr(kind, "get_file", counting)
    address = put("memory://bucket/rows.jsonl", b"one\n")
    (first,) = named_paths(Path(), [address])
    assert named_paths(Path(), [address, address]) == [first] and fetched == [address]
    put(address, b"two\n")
    (second,) = named_paths(Path(), [address])
    assert first != second and fetched == [address] * 2
    assert (first.read_bytes(), second.read_bytes()) == (b"one\n", b"two\n"), "who reads the first goes on"
    os.utime(first.parent / remote.NOTE, (0, 0))
    put(address, b"three\n")
    named_paths(Path(), [address])
    assert not first.exists() and second.exists(), "an old version that nobody has used for a day is gone"


def test_an_answer_holds_while_a_dataset_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "ASKED_AGAIN", 60.0)
    address = put("memory://bucket/rows.jsonl", b"one\n")
    paths = named_paths(Path(), [address])
    put(address, b"two\n")
    assert named_paths(Path(), [address]) == paths


def test_without_a_network_what_was_fetched_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    put("memory://bucket/rows-1.jsonl", b"one\n")
    put("memory://bucket/rows-2.jsonl", b"two\n")
    pattern = ["memory://bucket/rows-*.jsonl"]
    paths = named_paths(Path(), pattern)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    put("memory://bucket/rows-1.jsonl", b"another\n")
    assert named_paths(Path(), pattern) == paths
    assert named_paths(Path(), ["memory://bucket/rows-2.jsonl"]) == paths[1:]
    said = refused("memory://bucket/rows-3.jsonl")
    assert "it was not fetched before, and the network is forbidden" in said and "unset HF_HUB_OFFLINE" in said
    remote.SET_HERE.add("HF_HUB_OFFLINE")  # as a run before this one has, in the same process
    assert named_paths(Path(), pattern) != paths


def test_validate_asks_no_network(
    fttool_recipe: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = fsspec.get_filesystem_class("memory")
    monkeypatch.setattr(kind, "info", lambda *_: pytest.fail("it was asked"))
    (tmp_path / "my.toml").write_text(dumps(recipe(fttool_recipe, "memory://bucket/rows.jsonl")))
    assert main(["validate", str(tmp_path / "my.toml")]) == 0
    assert "over the network" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("s3://bucket/rows.jsonl", ("s3:// needs the package s3fs", "pip install s3fs")),
        ("gs://bucket/rows.jsonl", ("gs:// needs the package gcsfs", "pip install gcsfs")),
        ("abfs://rows@account/rows.jsonl", ("needs the package adlfs", "pip install adlfs")),
        ("htps://example.org/rows.jsonl", ("'htps' is not a protocol that is known", "did you mean 'https'")),
        ("file:///tmp/rows.jsonl", ("not the address of one file over the network", "write its path")),
        ("zip://rows.jsonl::s3://bucket/rows.zip", ("not the address of one file", "write its path")),
        ("memory://bucket/none.jsonl", ("there is no such file", "check the address")),
        ("memory://bucket/none-*.jsonl", ("no file fits this pattern",)),
        ("memory://full", ("this is a folder", "memory://full/*.jsonl")),
    ],
)
def test_what_cannot_be_fetched_is_said(address: str, said: tuple[str, ...]) -> None:
    put("memory://full/rows.jsonl", b"one\n")
    package = said[0].rpartition(" ")[2]
    if package in ("s3fs", "gcsfs", "adlfs") and find_spec(package):
        pytest.skip(f"{package} is installed")
    message = refused(address)
    assert message.startswith(f"{address}: ") and all(part in message for part in said)


def test_what_is_not_installed_is_said_at_its_key(
    fttool_recipe: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my.toml").write_text(dumps(recipe(fttool_recipe, "no-such://bucket/rows.jsonl")))
    assert main(["validate", str(tmp_path / "my.toml")]) == 4
    assert "'no-such' is not a protocol that is known" in capsys.readouterr().err


@pytest.mark.parametrize("kind", [RuntimeError, PermissionError, ConnectionError])
def test_whatever_an_implementation_raises_is_a_sentence(
    kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without what looks like a secret in it."""

    def fails(*_: Any) -> None:
        raise kind("https://user:pass-word-1234@host/rows.jsonl says no")

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "info", fails)
    message = refused("memory://bucket/rows.jsonl")
    assert "it cannot be fetched: " in message and "says no" in message
    assert "pass-word" not in message and "credentials are taken from the environment" in message


def test_a_file_that_changes_while_it_is_fetched_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = fsspec.get_filesystem_class("memory")
    original = kind.get_file

    def late(self: Any, address: str, to: str, *rest: Any) -> None:
        original(self, address, to, *rest)
        put(address, b"another")

    address = put("memory://bucket/rows.jsonl", b"one\n")
    monkeypatch.setattr(kind, "get_file", late)
    assert "changed while it was fetched" in refused(address)
    assert not list(remote._home(address).rglob("*.jsonl"))


def test_what_is_kept_is_listed_and_cleared(capsys: pytest.CaptureFixture[str]) -> None:
    (path,) = named_paths(Path(), [put("memory://bucket/rows.jsonl", b"one\n")])
    assert main(["cache"]) == 0
    assert "memory://bucket/rows.jsonl" in capsys.readouterr().out
    assert main(["cache", "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)["fetched"]
    assert (listed["address"], listed["bytes"]) == ("memory://bucket/rows.jsonl", 4)
    assert main(["cache", "--clear"]) == 0
    assert not path.exists()


@pytest.mark.parametrize(
    ("paths", "name", "is_remote"),
    [
        (("s3://bucket/chats.jsonl.gz",), "chats", True),
        (("https://example.org/a/chats.jsonl?version=3",), "chats", True),
        (("gs://bucket/2024-*.jsonl",), "2024", True),
        (("a/chats.jsonl",), "chats", False),
        (("C:\\chats.jsonl",), None, False),
    ],
)
def test_a_dataset_is_called_by_its_address(paths: tuple[str, ...], name: str | None, is_remote: bool) -> None:
    table = RowsTable.model_construct(path=paths, hub=None, name=None)
    assert table.remote == is_remote
    assert name is None or table.dataset == name


# -- a plain HTTP server ---------------------------------------------------------------------------------------------


class Server:
    """One file, with or without what tells its versions."""

    def __init__(self) -> None:
        self.content = lines(ROWS)
        self.headers: dict[str, str] = {"ETag": '"1"'}
        self.asked: list[str] = []
        self.cut = 0
        """Bytes that are left out at the end, though they are promised."""


@pytest.fixture
def server() -> Iterator[tuple[Server, str]]:
    """The server, and the address of its file."""
    if find_spec("aiohttp") is None:
        pytest.skip("HTTP through fsspec is not tried: pip install aiohttp")
    serving = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            serving.asked.append(self.command)
            if not self.path.startswith("/rows.jsonl"):
                self.send_error(404)
                return
            self.send_response(200)
            for name, value in {**serving.headers, "Content-Length": str(len(serving.content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(serving.content[: len(serving.content) - serving.cut])

        def log_message(self, format: str, *args: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield serving, f"http://127.0.0.1:{http.server_port}/rows.jsonl?as=lines"
    http.shutdown()
    http.server_close()
    thread.join()


def test_a_file_comes_over_http_once_for_each_version(server: tuple[Server, str]) -> None:
    serving, address = server
    (path,) = named_paths(Path(), [address])
    assert path.name == "rows.jsonl" and path.read_bytes() == serving.content
    assert named_paths(Path(), [address]) == [path] and serving.asked.count("GET") == 1
    serving.content, serving.headers = lines(ROWS[:2]), {"ETag": '"2"'}
    (newer,) = named_paths(Path(), [address])
    assert newer.read_bytes() == lines(ROWS[:2]) and path.read_bytes() == lines(ROWS)
    assert remote.address_of(newer) == address


def test_without_a_version_a_file_is_fetched_each_time_and_stays_where_it_is_the_same(
    server: tuple[Server, str],
) -> None:
    serving, address = server
    serving.headers = {}
    (path,) = named_paths(Path(), [address])
    before = path.stat()
    assert named_paths(Path(), [address]) == [path] and serving.asked.count("GET") == 2
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    serving.content = lines(ROWS[:1])
    named_paths(Path(), [address])
    assert path.read_bytes() == lines(ROWS[:1])


def test_a_file_that_is_cut_off_on_the_way_is_not_kept(server: tuple[Server, str]) -> None:
    serving, address = server
    serving.cut = 20
    assert "it cannot be fetched" in refused(address)
    serving.cut = 0
    (path,) = named_paths(Path(), [address])
    assert path.read_bytes() == serving.content


def test_an_address_without_a_file_and_a_server_that_is_gone(server: tuple[Server, str]) -> None:
    _, address = server
    assert "404" in refused(address.replace("rows.jsonl", "none.jsonl"))
    assert "it cannot be fetched" in refused("http://127.0.0.1:9/rows.jsonl")


def test_what_looks_like_a_secret_in_an_address_is_refused(fttool_recipe: dict[str, Any], tmp_path: Path) -> None:
    for number, address in enumerate(
        ("https://me:my-password@example.org/rows.jsonl", "s3://bucket/rows.jsonl?X-Amz-Signature=abcdef0123456789")
    ):
        asked = recipe(fttool_recipe, address)
        result = run_recipe({**asked, "run": {**asked["run"], "name": f"run-{number}"}}, tmp_path)
        assert result.exit_code == 3 and "looks like a secret" in str(result.error)
