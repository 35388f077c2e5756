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
import torch
from tomli_w import dumps
from transformers import AutoModelForCausalLM, AutoTokenizer

from fttool.cli import main
from fttool.testing import tiny_model, tiny_tokenizer
from fttool_plugins.verbs.check_template.losses import tolerance

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
        "optimizer": {"name": "adamw", "lr": 0.05},
        "task": "sft",
        "data": {"train": [{"path": "rows.jsonl"}]},
    }
    (place / "my.toml").write_text(dumps(tables))
    assert main(["run", str(place / "my.toml"), "-q", "--set", "evaluation.samples=0"]) == 0
    return place / "runs" / "my"


class Server:
    """Plays llama.cpp's server, or vLLM's, with the run's tokenizer and weights, and a planted fault."""

    def __init__(self, folder: Path, fault: str = "", kind: str = "llama.cpp") -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(str(folder / "model"))
        weights = folder.parents[1] / "source" if fault == "other weights" else folder / "model"
        self.model: Any = AutoModelForCausalLM.from_pretrained(str(weights))
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
            case "/completion" if self.fault != "no numbers":
                (token, _), *_ = asked["logit_bias"]
                said = {"id": token, "logprob": self._numbers([*asked["prompt"], token])[-1]}
                return {"stop_type": "eos" if self._ends(token) else "limit", "completion_probabilities": [said]}
            case _:
                return None

    def _ends(self, token: int) -> bool:
        return (token == self.tokenizer.eos_token_id) != (self.fault == "another end")

    def _numbers(self, ids: list[int]) -> list[float]:
        """The log-probabilities of all tokens but the first."""
        logits = self.model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        return [logits[at, token].item() for at, token in enumerate(ids[1:])]

    def _vllm(self, path: str, asked: dict[str, Any]) -> Any:
        if path == "/v1/models":
            return {"data": [{"id": "mine"}]}
        if path == "/v1/completions" and self.fault != "no numbers":
            return {"choices": [self._completed(asked)]}
        if path != "/tokenize":
            return None
        text = self._written(asked) if "messages" in asked else asked["prompt"]
        return {"tokens": self._tokens(text, bos=False)}

    def _completed(self, asked: dict[str, Any]) -> dict[str, Any]:
        ids = asked["prompt"]
        if "prompt_logprobs" in asked:
            numbers = zip(ids[1:], self._numbers(ids), strict=True)
            return {"prompt_logprobs": [None, *({str(token): {"logprob": value}} for token, value in numbers)]}
        (token,) = asked["allowed_token_ids"]
        ends = self._ends(token)
        return {"token_ids": [token] * (1 if ends else 2), "finish_reason": "stop" if ends else "length"}

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
    llama, vllm = {"/props", "/apply-template", "/tokenize", "/completion"}, {"/v1/models", "/v1/completions"}
    assert set(server.asked) == (llama if kind == "llama.cpp" else {"/props", "/tokenize"} | vllm)
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


@pytest.mark.parametrize("kind", ["llama.cpp", "vllm"])
def test_an_answer_that_does_not_end_is_found(
    folder: Path, serve: Any, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    (found,) = checked(folder, serve(Server(folder, "another end", kind)), capsys, 5)
    assert "the server goes on behind '<|im_end|>', with which training ends an answer" in found["kind"]


@pytest.mark.parametrize("kind", ["llama.cpp", "vllm"])
@pytest.mark.parametrize("fault", ["", "other weights", "no numbers"])
def test_the_loss_of_the_same_tokens_is_compared(
    folder: Path, serve: Any, capsys: pytest.CaptureFixture[str], kind: str, fault: str
) -> None:
    """Of the learned tokens of the first rows; judged by the losses that transformers itself computes of the files."""
    differ = fault == "other weights"
    command = ["check-template", str(folder), "--against", serve(Server(folder, fault, kind)), "--loss-tokens", "7"]
    assert main([*command, "--json"]) == (5 if differ else 0)
    shown = capsys.readouterr()
    losses = json.loads(shown.out)["losses"]
    if fault == "no numbers":
        assert losses is None and "losses are not compared" in shown.err
        return
    assert (losses["tokens"], losses["silent"], losses["differ"]) == (7, 0, differ)
    assert losses["training"] != losses["theirs"] or not differ
    assert abs(losses["training"] - losses["theirs"]) < 1e-4 or differ
    assert losses["tolerance"] == 0.02  # neither of the stubs says how its weights are stored


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        *(("all F32", 0.01), ("F16", 0.01), ("BF16", 0.02), ("Q8_0", 0.02), ("Q6_K", 0.1), ("Q5_K - Small", 0.1)),
        *(("Q4_K - Medium", 0.2), ("MXFP4 MoE", 0.2), ("IQ3_XS - 3.3 bpw", 0.5), ("TQ1_0 - 1.69 bpw ternary", 0.5)),
        *(("float32", 0.01), ("float16", 0.01), ("bfloat16", 0.02), ("float8_e4m3fn", 0.02), ("", 0.02)),
    ],
)
def test_what_a_number_format_may_cost(name: str, allowed: float) -> None:
    assert tolerance(name) == allowed


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
