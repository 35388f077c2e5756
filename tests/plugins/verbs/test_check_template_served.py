"""`fttool check-template` against llama.cpp's own server, with the built-in model in GGUF files.

Faults are planted where they come from in real life, in what the file says of tokenizer and weights; on the right one
nothing is found. `pip install xllamacpp` brings the server (33 MB); without it, nothing here can be known.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tomli_w import dumps
from transformers import AutoTokenizer, LlamaForCausalLM

from fttool.cli import main

from ...gguf_model import write_gguf
from ...rows import write_rows

pytestmark = pytest.mark.skipif(
    find_spec("xllamacpp") is None, reason="llama.cpp's server is not asked: pip install xllamacpp"
)

BUILT_IN = Path(__file__).parents[3] / "plugins/fttool_plugins/model/tiny_chat"
END = "<|done|>"
"""An end of turns that llama.cpp does not know by its name, so that it must be told."""
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|done|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SYSTEM = {"role": "system", "content": "Answer in rhymes."}


def build_source(folder: Path) -> Path:
    """The built-in model with a BOS and another end of turns."""
    shutil.copytree(BUILT_IN, folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        file = folder / name
        file.write_text(file.read_text().replace("<|im_end|>", END))
    tokenizer: Any = AutoTokenizer.from_pretrained(str(folder))
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    tokenizer.chat_template = TEMPLATE
    model: Any = LlamaForCausalLM.from_pretrained(str(folder), dtype="float32")
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    (folder / "chat_template.jinja").unlink()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that changes its model's weights enough to be told from those that it began with."""
    place = tmp_path_factory.mktemp("run")
    build_source(place / "source")
    talks = [
        [{"role": "user", "content": f"Where is {name}?"}, {"role": "assistant", "content": f"{name} is in “{city}”."}]
        for name, city in (("Anna", "Rome"), ("Bob", "Zürich"), ("Eve", "Oslo"), ("Lee", "Bern"))
    ]
    write_rows(place / "rows.jsonl", [{"messages": [SYSTEM, *talk, *talks[0]]} for talk in talks])
    write_rows(place / "eval.jsonl", [{"messages": [SYSTEM, *talks[1], *talks[2]]}])
    tables: dict[str, Any] = {
        "recipe": 1,
        "run": {"name": "my", "max_steps": 4, "output": str(place / "runs"), "micro_batch": 4, "global_batch": 4},
        "model": {"source": "source"},
        "optimizer": {"name": "adamw", "lr": 2e-3},
        "precision": "fp32",
        "data": {"train": [{"path": "rows.jsonl"}], "eval": [{"path": "eval.jsonl"}]},
    }
    (place / "my.toml").write_text(dumps(tables))
    assert main(["run", str(place / "my.toml"), "-q", "--set", "evaluation.samples=0"]) == 0
    return place / "runs" / "my"


Serve = Callable[..., str]


@pytest.fixture
def serve(folder: Path, tmp_path: Path) -> Iterator[Serve]:
    """Starts llama.cpp's server on loopback for a GGUF of the run's model, or of another folder's; returns its URL."""
    import xllamacpp

    started: list[Any] = []

    def start(model: Path | None = None, **more: Any) -> str:
        params = xllamacpp.CommonParams()
        params.model.path = str(write_gguf(model or folder / "model", tmp_path / f"{len(started)}.gguf", **more))
        params.port, params.n_ctx, params.n_parallel = 0, 1024, 1
        params.cpuparams.n_threads = 1
        params.warmup, params.verbosity = False, -1
        started.append(xllamacpp.Server(params))
        return str(started[-1].listening_address)

    yield start
    started.clear()


def checked(folder: Path, address: str, capsys: pytest.CaptureFixture[str], code: int, *more: str) -> dict[str, Any]:
    """What is found."""
    capsys.readouterr()
    assert main(["check-template", str(folder), "--against", address, "--json", *more]) == code
    found = json.loads(capsys.readouterr().out)
    assert (found["rows"], found["prompts"]) == (4, 8)
    return found


def kinds(found: dict[str, Any]) -> set[str]:
    return {difference["kind"].partition(":")[0] for difference in found["differences"]}


def test_nothing_is_found_on_the_right_server(folder: Path, serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    address = serve()
    found = checked(folder, address, capsys, 0)
    losses = found["losses"]
    assert found["differences"] == [] and not losses["differ"]
    assert abs(losses["theirs"] - losses["training"]) < 2e-3
    assert losses["tokens"] > 20 and losses["silent"] > 0  # tokens that are half a letter: nothing is said of them
    assert losses["number_format"] == "all F32"
    assert main(["check-template", str(folder), "--against", address]) == 0
    assert f"  loss {losses['theirs']:.4f} nats per token there" in capsys.readouterr().out


def test_a_bos_that_the_template_alone_writes_is_the_same(
    folder: Path, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    address = serve(**{"tokenizer.ggml.add_bos_token": False})
    assert checked(folder, address, capsys, 0, "--loss-tokens", "0")["losses"] is None


FAULTS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "double BOS": ({"tokenizer.chat_template": "{{ bos_token }}" + TEMPLATE}, {"BOS stands there twice"}),
    "no BOS": (
        {"tokenizer.chat_template": TEMPLATE.replace("{{ bos_token }}", ""), "tokenizer.ggml.add_bos_token": False},
        {"BOS is missing"},
    ),
    "missing system": (
        {
            "tokenizer.chat_template": TEMPLATE.replace(
                "messages %}", "(messages[1:] if messages|length > 3 else messages) %}"
            )
        },
        {"the system turn is missing"},
    ),
    "a system turn in that of the user": (  # llama.cpp's own remedy for a template that writes no system turns
        {"tokenizer.chat_template": TEMPLATE.replace("messages %}", "messages if m.role != 'system' %}")},
        {"the system turn is written into the next one"},
    ),
    "another template": (
        {"tokenizer.chat_template": TEMPLATE.replace("{{ m.role }}\n", "{{ m.role }}: ")},
        {"another template"},
    ),
    "another date": (
        {"tokenizer.chat_template": TEMPLATE.replace("<|done|>", "<|done|>{{ strftime_now('%d %b %Y') }}")},
        {"another date"},
    ),
    "a conversation that is refused": (
        {
            "tokenizer.chat_template": "{% if messages|length > 3 %}{{ raise_exception('Too long!') }}{% endif %}"
            + TEMPLATE
        },
        {"it refuses the conversation"},
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_the_template_are_found_by_name(
    folder: Path, serve: Serve, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    changes, expected = FAULTS[fault]
    found = checked(folder, serve(**changes), capsys, 5, "--loss-tokens", "0")
    assert kinds(found) == expected
    assert len(found["differences"]) == 8


def test_a_lost_end_token_is_found(folder: Path, serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    """The server writes it right, and goes on behind it; or it does not know it at all."""
    end = AutoTokenizer.from_pretrained(str(folder / "model")).convert_tokens_to_ids(END)
    elsewhere = {"tokenizer.ggml.eos_token_id": 0}
    found = checked(folder, serve(**elsewhere), capsys, 5, "--loss-tokens", "0")
    said = "the end of an answer: the server goes on behind '<|done|>', with which training ends an answer"
    assert [difference["kind"] for difference in found["differences"]] == [f"{said}; it ends one at '<|pad|>'"]
    found = checked(folder, serve(ordinary=[end], **elsewhere), capsys, 5, "--loss-tokens", "0")
    assert kinds(found) == {"the same text in other tokens", "the end of an answer"}
    assert "'<|done|>' is not one token to the server" in json.dumps(found, ensure_ascii=False)


def test_an_end_that_llama_cpp_knows_by_its_name_is_not_lost(
    folder: Path, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    """`<|pad|>` is the file's end of text, but llama.cpp ends an answer at what is called `<|im_end|>` all the same."""
    address = serve(BUILT_IN, **{"tokenizer.ggml.eos_token_id": 0})
    from fttool_plugins.verbs.check_template.servers import server

    asked = server(address)
    assert asked.stops_at(2, "<|im_end|>") == ""
    assert "goes on behind '<|im_start|>'" in asked.stops_at(1, "<|im_start|>")


@pytest.mark.parametrize("quantization", ["F16", "Q8_0", "Q4_0"])
def test_numbers_of_few_bits_are_let_pass(
    folder: Path, serve: Serve, capsys: pytest.CaptureFixture[str], quantization: str
) -> None:
    losses = checked(folder, serve(quantization=quantization), capsys, 0)["losses"]
    assert losses["number_format"] == quantization
    assert losses["tolerance"] == {"F16": 0.01, "Q8_0": 0.02, "Q4_0": 0.2}[quantization]
    assert 0 < abs(losses["theirs"] - losses["training"]) <= losses["tolerance"]


def test_other_weights_and_other_positions_are_found_by_the_loss(
    folder: Path, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    source = folder.parents[1] / "source"
    found = checked(folder, serve(source), capsys, 5)
    assert found["differences"] == [] and found["losses"]["differ"]
    assert found["losses"]["theirs"] > found["losses"]["training"] + 0.2  # what training has brought
    assert checked(folder, serve(**{"llama.rope.freq_base": 100.0}), capsys, 5)["losses"]["differ"]
    assert main(["check-template", str(folder), "--against", serve(source)]) == 5
    shown = capsys.readouterr().out
    assert (
        "more than the 0.01 that all F32 there and float32 here allow" in shown and "other weights are served" in shown
    )


def test_a_gguf_file_is_asked_through_transformers(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_gguf(folder / "model", tmp_path / "model.gguf", quantization="Q8_0")
    losses = checked(folder, str(file), capsys, 0)["losses"]
    assert (losses["number_format"], losses["silent"]) == ("Q8_0", 0) and not losses["differ"]
