"""`fttool check-template` against servers that play llama.cpp's and vLLM's part, and against model folders.

Each plays by transformers alone; a fault is planted in what it answers, and found by its name. On the right one nothing
is found.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from tomli_w import dumps
from transformers import AutoTokenizer

from fttool.cli import main
from fttool.testing import tiny_model, tiny_tokenizer

from ...rows import write_rows

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SYSTEM = {"role": "system", "content": "Answer in rhymes."}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two updates, whose template writes BOS, with its model in `runs/my/model`."""
    place = tmp_path_factory.mktemp("run")
    (place / "mine.jinja").write_text(TEMPLATE)
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    tokenizer.save_pretrained(place / "source")
    tiny_model().save_pretrained(place / "source")
    talks = [[{"role": "user", "content": f"Q{n}?"}, {"role": "assistant", "content": f"A{n}."}] for n in range(4)]
    write_rows(place / "rows.jsonl", [{"messages": [SYSTEM, *talk, *talks[0]]} for talk in talks])
    tables: dict[str, Any] = {
        "recipe": 1,
        "run": {"name": "my", "max_steps": 2, "output": str(place / "runs")},
        "model": {"source": "source", "chat_template": "mine.jinja"},
        "task": "sft",
        "data": {"train": [{"path": "rows.jsonl"}]},
    }
    (place / "my.toml").write_text(dumps(tables))
    assert main(["run", str(place / "my.toml"), "-q", "--set", "evaluation.samples=0"]) == 0
    return place / "runs" / "my"


class Server:
    """Plays llama.cpp's server, or vLLM's, with the run's tokenizer and a planted fault."""

    def __init__(self, folder: Path, fault: str = "", kind: str = "llama.cpp") -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(str(folder / "model"))
        self.fault, self.kind = fault, kind
        self.asked: list[str] = []

    def answer(self, path: str, asked: dict[str, Any]) -> Any:
        self.asked.append(path)
        if self.kind == "vllm":
            return self._vllm(path, asked)
        match path:
            case "/props":
                return {"eos_token": "<s>" if self.fault == "another end" else self.tokenizer.eos_token}
            case "/apply-template":
                return {"prompt": self._written(asked).removeprefix(self._bos())}
            case "/tokenize":
                return {"tokens": self._tokens(asked["content"], bos=asked["add_special"])}
            case _:
                return None

    def _vllm(self, path: str, asked: dict[str, Any]) -> Any:
        if path == "/v1/models":
            return {"data": [{"id": "mine"}]}
        if path != "/tokenize":
            return None
        text = self._written(asked) if "messages" in asked else asked["prompt"]
        return {"tokens": self._tokens(text, bos=False)}

    def _bos(self) -> str:
        """What llama.cpp takes off a prompt, since it puts it in front again."""
        return "" if self.fault == "double BOS" else str(self.tokenizer.bos_token)

    def _written(self, asked: dict[str, Any]) -> str:
        messages, template = asked["messages"], TEMPLATE
        if self.fault == "missing system":
            messages = [message for message in messages if message["role"] != "system"]
        if self.fault == "another template":
            template = TEMPLATE.replace("{{ m.role }}\n", "{{ m.role }}: ")
        return str(
            self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, chat_template=template
            )
        )

    def _tokens(self, text: str, *, bos: bool) -> list[int]:
        literal = self.fault == "lost end token"
        parts = text.split("<|im_end|>") if literal else [text]
        ids: list[int] = [self.tokenizer.bos_token_id] if bos else []
        for number, part in enumerate(parts):
            more = "im_end" if number else ""
            ids += self.tokenizer(more + part, add_special_tokens=False)["input_ids"]
        return ids


@pytest.fixture
def serve() -> Iterator[Any]:
    """Starts a server on loopback; returns its address."""
    started: list[HTTPServer] = []

    def start(server: Server) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._reply({})

            def do_POST(self) -> None:
                self._reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def _reply(self, asked: dict[str, Any]) -> None:
                found = server.answer(self.path, asked)
                self.send_response(200 if found is not None else 404)
                self.end_headers()
                self.wfile.write(json.dumps(found).encode())

            def log_message(self, format: str, *args: Any) -> None:
                pass

        http = HTTPServer(("127.0.0.1", 0), Handler)
        started.append(http)
        threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return f"http://127.0.0.1:{http.server_port}"

    yield start
    for http in started:
        http.shutdown()
        http.server_close()


def checked(folder: Path, against: str, capsys: pytest.CaptureFixture[str], code: int) -> list[dict[str, Any]]:
    """The differences that are found."""
    capsys.readouterr()
    assert main(["check-template", str(folder), "--against", against, "--json"]) == code
    found = json.loads(capsys.readouterr().out)
    assert (found["rows"], found["prompts"]) == (4, 8)
    return found["differences"]


@pytest.mark.parametrize("kind", ["llama.cpp", "vllm"])
def test_on_the_right_server_nothing_is_found(
    folder: Path, serve: Any, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    server = Server(folder, kind=kind)
    address = serve(server)
    assert checked(folder, address, capsys, 0) == []
    assert set(server.asked) <= {"/props", "/apply-template", "/tokenize", "/v1/models"}
    assert main(["check-template", str(folder), "--against", address + "/v1", "--rows", "2"]) == 0
    assert "4 prompts of 2 rows have the tokens of training" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("fault", "kinds"),
    [
        ("double BOS", {"BOS stands there twice"}),
        ("missing system", {"the system turn is missing"}),
        ("another template", {"another template"}),
        ("lost end token", {"another template", "the end of an answer: '<|im_end|>' is not one token to the server"}),
    ],
)
def test_planted_faults_are_found_by_name(
    folder: Path, serve: Any, capsys: pytest.CaptureFixture[str], fault: str, kinds: set[str]
) -> None:
    differences = checked(folder, serve(Server(folder, fault)), capsys, 5)
    assert {difference["kind"].partition(",")[0] for difference in differences} == kinds
    assert sum("end of an answer" not in difference["kind"] for difference in differences) == 8
    assert all(difference["row"].rpartition(":")[2].isdigit() for difference in differences)


def test_what_is_found_is_shown(folder: Path, serve: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-template", str(folder), "--against", serve(Server(folder, "another template"))]) == 5
    shown = capsys.readouterr().out
    assert "  8 × another template" in shown and "in training '\\n" in shown


def test_models_are_asked_through_transformers(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert checked(folder, str(folder), capsys, 0) == []
    other: Any = AutoTokenizer.from_pretrained(str(folder / "model"))
    other.chat_template = TEMPLATE.replace("{{ bos_token }}", "")
    other.save_pretrained(tmp_path)
    assert {found["kind"] for found in checked(folder, str(tmp_path), capsys, 5)} == {"BOS is missing"}
    other.chat_template = TEMPLATE
    other.eos_token = "<|im_start|>"
    other.save_pretrained(tmp_path)
    (found,) = checked(folder, str(tmp_path), capsys, 5)
    assert (
        found["kind"]
        == "the end of an answer: it ends an answer at '<|im_start|>', and training ends it with '<|im_end|>'"
    )


def test_who_cannot_be_asked_is_said(
    folder: Path, tmp_path: Path, serve: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for against, code, said in (
        ("ftp://127.0.0.1", 2, "is not an address of HTTP"),
        (str(tmp_path / "gone"), 2, "is neither a folder with a model nor a file"),
        ("http://127.0.0.1:9", 5, "no server answers /props"),
        (str(tmp_path), 5, "its tokenizer cannot be loaded"),
        (serve(Server(folder)) + "/nowhere", 5, "has neither /props nor"),
    ):
        assert main(["check-template", str(folder), "--against", against]) == code
        assert said in capsys.readouterr().err
    assert main(["check-template", str(tmp_path), "--against", str(folder)]) == 2
