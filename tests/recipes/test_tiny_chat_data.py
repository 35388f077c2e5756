"""The data of `builtin:tiny-chat`: made the same way by everyone, in a form that training reads as it is meant."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fttool.api import FormatContext
from fttool_plugins.format.messages import Messages

RECIPES = Path(__file__).parents[2] / "recipes"
SCRIPTS = RECIPES / "tiny_chat"
MODULES = "heapq,json,linecache,shlex"
"""Two held-out modules, two others."""
SPECIAL = ("<|pad|>", "<|im_start|>", "<|im_end|>")
SCRIPT_MODULES = ("known_rows", "pack", "prepare", "questions", "quickstart_rows", "rows", "stdlib_docs", "summaries")


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The scripts can be imported, and leave no module of so plain a name behind."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield
    for name in SCRIPT_MODULES:
        sys.modules.pop(name, None)


def prepare(out: Path, hash_seed: str) -> Path:
    command = [sys.executable, str(SCRIPTS / "prepare.py"), "--out", str(out), "--modules", MODULES]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": hash_seed}, capture_output=True)
    return out


def rows_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("tiny_chat") / "build", "1")


@pytest.fixture(scope="module")
def tokenizer(built: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(built / "tokenizer"), local_files_only=True)


@pytest.fixture(scope="module")
def committed() -> list[dict[str, Any]]:
    return rows_of(RECIPES / "data" / "stdlib-qa.jsonl")


# -- preparation -----------------------------------------------------------------------------------------------------


@pytest.mark.full
def test_the_same_python_writes_the_same_bytes(built: Path, tmp_path: Path) -> None:
    again = prepare(tmp_path / "again", "2")
    files = sorted(path.relative_to(built) for path in built.rglob("*") if path.is_file())
    names = "chat.jsonl config.json text.jsonl tokenizer/chat_template.jinja tokenizer/tokenizer.json"
    assert [file.as_posix() for file in files] == [*names.split(), "tokenizer/tokenizer_config.json"]
    assert [file for file in files if (built / file).read_bytes() != (again / file).read_bytes()] == []


def test_text_carries_what_the_conversations_leave_out(built: Path) -> None:
    texts = [row["text"] for row in rows_of(built / "text.jsonl")]
    pushes = [text for text in texts if text.startswith("heapq.heappush(heap, item)\n\n")]
    assert pushes == ["heapq.heappush(heap, item)\n\nPush item onto heap, maintaining the heap invariant."]
    assert max(map(len, texts)) <= 720
    assert len(set(texts)) == len(texts)


def test_chat_rows_are_conversations_about_what_is_not_held_out(built: Path, scripts: None) -> None:
    from questions import HELD_OUT

    read = Messages().build(FormatContext(origin="chat.jsonl"))
    chats = rows_of(built / "chat.jsonl")
    for number, chat in enumerate(chats, 1):
        assert read(chat, f"chat.jsonl:{number}").answer().strip()
        spoken = " ".join(turn["content"] for turn in chat["messages"])
        assert {name.split(".")[0] for name in re.findall(r"`([\w.]+)", spoken)}.isdisjoint(HELD_OUT), chat
        assert chat["about"].split(".")[0] not in HELD_OUT
    about = {chat["about"].split(".")[0] for chat in chats if not chat["about"].startswith("small talk")}
    assert about == {"linecache", "shlex"}
    shapes = {tuple(turn["role"][0] for turn in chat["messages"]) for chat in chats}
    assert {("u", "a"), ("s", "u", "a")} <= shapes


def test_an_unknown_module_is_named(tmp_path: Path, scripts: None, capsys: pytest.CaptureFixture[str]) -> None:
    import prepare as script

    with pytest.raises(SystemExit, match="2"):
        script.main(["--out", str(tmp_path / "x"), "--modules", "heapqq"])
    assert "--modules heapqq: none of these has a documentation string" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


# -- tokenizer and chat template -------------------------------------------------------------------------------------


def test_special_tokens_are_one_id_each_and_the_end_is_no_padding(tokenizer: Any, built: Path) -> None:
    ids = [tokenizer(token)["input_ids"] for token in SPECIAL]
    assert ids == [[0], [1], [2]]
    assert (tokenizer.pad_token, tokenizer.eos_token, tokenizer.bos_token) == ("<|pad|>", "<|im_end|>", None)
    config = json.loads((built / "config.json").read_text(encoding="utf-8"))
    assert (config["pad_token_id"], config["eos_token_id"], config["vocab_size"]) == (0, 2, len(tokenizer))


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "  leading and trailing  ",
        "tab\tand\r\nline\n\n\nends",
        "ünïcödé ☃ 日本語 🐍",
        "\x00\x7f\ufeff",
        "x" * 300,
        "",
    ],
)
def test_any_text_comes_back_unchanged(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_what_generation_sees_is_what_training_saw(
    tokenizer: Any, built: Path, committed: list[dict[str, Any]]
) -> None:
    """The prompt with its header is a prefix of the whole, in text and in tokens, and EOS ends each turn."""
    for row in [*rows_of(built / "chat.jsonl"), *committed[::20]]:
        turns = row["messages"]
        whole = tokenizer.apply_chat_template(turns, tokenize=False)
        prompt = tokenizer.apply_chat_template(turns[:-1], tokenize=False, add_generation_prompt=True)
        assert whole == f"{prompt}{turns[-1]['content']}<|im_end|>\n"
        whole_ids, prompt_ids = tokenizer(whole)["input_ids"], tokenizer(prompt)["input_ids"]
        assert whole_ids[: len(prompt_ids)] == prompt_ids
        assert whole_ids.count(tokenizer.eos_token_id) == len(turns)


def test_the_template_writes_chatml(tokenizer: Any) -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    expected = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
    assert tokenizer.apply_chat_template(turns, tokenize=False) == expected
    with_header = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert with_header == f"{expected}<|im_start|>assistant\n"


# -- the quickstart's rows -------------------------------------------------------------------------------------------


def test_committed_rows_are_short_answers_about_held_out_modules(
    committed: list[dict[str, Any]], scripts: None
) -> None:
    from questions import HELD_OUT

    assert 600 <= len(committed) <= 1_000
    assert (RECIPES / "data" / "stdlib-qa.jsonl").stat().st_size < 400_000
    read = Messages().build(FormatContext(origin="stdlib-qa.jsonl"))
    for number, row in enumerate(committed, 1):
        example = read(row, f"stdlib-qa.jsonl:{number}")
        assert [turn["role"] for turn in example.messages] == ["user", "assistant"]
        assert row["about"].split(".")[0] in HELD_OUT
        assert row["about"] in example.messages[0]["content"]
        assert example.answer().startswith(f"`{row['about']}")
        assert re.match(r"`[^`]+` — [A-Z]", example.answer())
        assert len(example.answer().split()) <= 60
    answers = [row["messages"][1]["content"] for row in committed]
    assert len(set(answers)) == len(answers)


def test_committed_rows_are_those_the_script_makes(committed: list[dict[str, Any]], scripts: None) -> None:
    """A row that stayed the same in this Python: documentation strings change from one version to the next."""
    from quickstart_rows import quickstart_rows
    from stdlib_docs import documented

    made = {row["about"]: row for row in quickstart_rows(documented(["heapq"]))}
    assert made["heapq.heappush"] == next(row for row in committed if row["about"] == "heapq.heappush")


# -- from documentation to answers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("doc", "expected"),
    [
        ("Return ``obj`` as\n  text.\n\nMore.", "Return `obj` as text."),
        ("first. Second one, e.g. This. Third", "First. Second one, e.g. This. Third."),
        ("S.find(sub) -> int\n\nReturn the lowest index.", "Return the lowest index."),
        ("getrandbits(k) -> x.  Generates an int with k bits.", "Generates an int with k bits."),
        (">>> code()\n1", ""),
        ("One of these is meant:", ""),
        ("Too short", ""),
        ("Kept sentence here. " + "Word " + "word " * 60 + ".", "Kept sentence here."),
    ],
)
def test_summary(doc: str, expected: str, scripts: None) -> None:
    from summaries import summary

    assert summary(doc) == expected


def test_a_long_call_is_cut_and_private_parameters_are_hidden(scripts: None) -> None:
    from quickstart_rows import call
    from stdlib_docs import Documented, Parameter

    many = tuple(Parameter(f"parameter_{n}", "None") for n in range(9))
    shown = call(Documented("json.dump", "json", "function", "…", (Parameter("x"), Parameter("_nil", "[]"), *many)))
    assert shown.startswith("json.dump(x, parameter_0=None, ") and shown.endswith(", …)")
    assert "_nil" not in shown and len(shown) < 90
    assert call(Documented("pathlib.Path.name", "pathlib", "property", "…")) == "pathlib.Path.name"


# -- rows that represent what the model knew -------------------------------------------------------------------------


def test_known_rows_are_those_of_the_pretraining_and_held_back_ones_are_none_of_them(
    built: Path, tmp_path: Path, scripts: None
) -> None:
    import known_rows

    known_rows.main(["--build", str(built), "--out", str(tmp_path)])
    for source, name in (("chat", "chat"), ("text", "docs")):
        lines = (built / f"{source}.jsonl").read_text().splitlines()
        known = (tmp_path / f"known-{name}.jsonl").read_text().splitlines()
        heldback = (tmp_path / f"heldback-{name}.jsonl").read_text().splitlines()
        assert len(known) == min(known_rows.SAMPLE, len(set(lines)) - len(heldback))
        assert set(known) <= set(lines) and set(heldback) <= set(lines) and not set(known) & set(heldback)
    rows = known_rows.pretraining_rows(built.absolute())
    assert len((tmp_path / "heldback-docs.jsonl").read_text().splitlines()) == sum(
        "text.jsonl" in example.origin for example in rows.eval_examples
    )
    assert 0 < len(rows.eval) < len(rows.train) / 10


@pytest.mark.full
def test_the_committed_rows_are_what_the_pretraining_held_back(tmp_path: Path) -> None:
    """Their perplexity is the one that the pre-training ended with, 8.77; its own rows have a far lower one."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    import fttool_plugins.model
    from fttool.recipe.reading import load
    from fttool.rows.data import prepare

    folder = str(Path(fttool_plugins.model.__file__).parent / "tiny_chat")
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    data = RECIPES / "data"

    def perplexity(kind: str) -> float:
        file = tmp_path / f"{kind}.toml"
        file.write_text(
            'recipe = 1\nmasking = "all"\nbatching = {name = "padded", max_length = 256}\n'
            '[model]\nsource = "builtin:tiny-chat"\n'
            f"[[data.train]]\npath = {json.dumps(str(data / f'{kind}-chat.jsonl'))}\n"
            f"[[data.train]]\npath = {json.dumps(str(data / f'{kind}-docs.jsonl'))}\nformat = 'text'\n"
        )
        loss, count = 0.0, 0
        for row in prepare(load(file), tokenizer).train:
            labels_T = torch.tensor(row.labels[1:])
            with torch.no_grad():
                logits_TV = model(torch.tensor([row.input_ids])).logits[0, :-1]
            loss += float(torch.nn.functional.cross_entropy(logits_TV, labels_T, reduction="sum"))
            count += int((labels_T != -100).sum())
        return math.exp(loss / count)

    assert perplexity("heldback") == pytest.approx(8.77, abs=0.005)
    assert perplexity("known") < 6


# -- the model in the wheel ------------------------------------------------------------------------------------------


def test_packing_rounds_the_weights_and_keeps_the_tokenizer(
    built: Path, tokenizer: Any, tmp_path: Path, scripts: None
) -> None:
    import pack
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(str(built)))
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    pack.main([str(tmp_path / "model"), str(tmp_path / "packed")])

    packed = AutoModelForCausalLM.from_pretrained(str(tmp_path / "packed"))
    assert packed.dtype == torch.bfloat16
    torch.testing.assert_close(
        packed.state_dict(), {n: w.bfloat16() for n, w in model.state_dict().items()}, rtol=0, atol=0
    )
    # A folder that says "llama" must not turn this tokenizer into Llama's.
    beside_config = AutoTokenizer.from_pretrained(str(tmp_path / "packed"))
    text = "  x = heapq.nlargest(3, [1.5, 2])  # ☃\n\n<|im_end|>"
    assert beside_config(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert beside_config.decode(beside_config(text)["input_ids"]) == text
    assert beside_config.chat_template == tokenizer.chat_template


def test_the_model_in_the_wheel_is_small_and_ends_its_turn(scripts: None) -> None:
    import pack
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    import fttool_plugins.model

    folder = Path(fttool_plugins.model.__file__).parent / "tiny_chat"
    assert sum(file.stat().st_size for file in folder.iterdir()) <= pack.LIMIT
    tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(str(folder), local_files_only=True, dtype=torch.float32)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hello!"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    answer = model.generate(**prompt, max_new_tokens=40, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert answer[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(answer, skip_special_tokens=True).startswith("Hello!")
