"""A model, tokenizer or chat template that cannot be trained is refused with exit code 5; nothing is written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fttool.testing import tiny_model

from .conftest import Shell

TURNS = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + ': ' }}"
ASKS = "{% if add_generation_prompt %}{{ '<|im_start|>assistant: ' }}{% endif %}"
SAYS_USER = "{% if message['role'] == 'user' %}{{ message['content'] }}{% endif %}"
DROPS = TURNS + SAYS_USER + "{{ '<|im_end|>' }}{% endfor %}" + ASKS
PLAIN = "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\\n' }}{% endfor %}"
UNENDED = PLAIN + "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
RAISES = "{{ raise_exception('Roles must alternate!') }}"


@pytest.fixture
def model(tmp_path: Path, fttool_tiny_model: Path) -> Path:
    """A copy of the tiny model, to be broken."""
    return Path(shutil.copytree(fttool_tiny_model, tmp_path / "tiny"))


@pytest.fixture
def recipe(recipe: dict[str, Any], model: Path) -> dict[str, Any]:
    recipe["model"] = {"source": model.name}
    return recipe


def change(file: Path, **values: Any) -> None:
    """Change keys of a JSON file; None deletes one."""
    kept = {**json.loads(file.read_text()), **values}
    file.write_text(json.dumps({key: value for key, value in kept.items() if value is not None}))


def drop_tensors(folder: Path, part: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if part not in name}
    assert len(kept) < len(tensors)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


# -- the folder ----------------------------------------------------------------------------------------------------


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    no_weights(folder)


def truncated(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def empty_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def missing_shard(folder: Path) -> None:
    weights = folder / "model.safetensors"
    names = dict.fromkeys(load_file(weights), "model-00001-of-00002.safetensors")
    names["lm_head.weight"] = "model-00002-of-00002.safetensors"
    weights.rename(folder / "model-00001-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))


def broken_tokenizer(folder: Path) -> None:
    file = folder / "tokenizer.json"
    file.write_text(file.read_text()[:500])


def no_tokenizer(folder: Path) -> None:
    for file in folder.glob("*token*"):
        file.unlink()


def other_shape(folder: Path) -> None:
    change(folder / "config.json", hidden_size=32)


def not_json(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "llama",')


FOLDERS: dict[str, tuple[Callable[[Path], Any], tuple[str, ...]]] = {
    "no weights": (no_weights, ("has no weights", "config:")),
    "pickled weights": (pickled, ("only pickled weights (pytorch_model.bin)", "can run code", "save_pretrained")),
    "truncated weights": (truncated, ("cannot load the model", "incomplete")),
    "empty weights": (empty_weights, ("cannot load the model",)),
    "a shard is missing": (missing_shard, ("cannot load the model", "model-00002-of-00002.safetensors")),
    "a layer is missing": (lambda f: drop_tensors(f, "layers.1.mlp"), ("lack 3 of the model's tensors", "mlp")),
    "the head is missing": (lambda f: drop_tensors(f, "lm_head"), ("lack 1 of the model's tensors (lm_head.weight",)),
    "weights of another shape": (other_shape, ("cannot load the model",)),
    "no config": (lambda f: (f / "config.json").unlink(), ("has no config.json", "save_pretrained")),
    "broken config": (not_json, ("cannot read", "config.json")),
    "unknown architecture": (lambda f: change(f / "config.json", model_type="lama"), ("`lama`",)),
    "own code": (
        lambda f: change(f / "config.json", auto_map={"AutoModelForCausalLM": "modeling.Model"}),
        ("asks to run its own Python code", "model.trust_remote_code = true"),
    ),
    "no tokenizer": (no_tokenizer, ("cannot load the tokenizer",)),
    "broken tokenizer": (broken_tokenizer, ("cannot load the tokenizer", "tokenizer's files")),
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_broken_model_folder_is_refused(shell: Shell, recipe: dict[str, Any], model: Path, kind: str) -> None:
    spoil, said = FOLDERS[kind]
    spoil(model)
    answer = shell.run(recipe)
    answer.refuses(5, str(model), *said, where=shell.place("source"))


def test_a_vocabulary_larger_than_the_embedding_is_refused(shell: Shell, recipe: dict[str, Any], model: Path) -> None:
    tiny_model(vocab_size=90).save_pretrained(model)
    answer = shell.run(recipe)
    answer.refuses(5, "the tokenizer has 101 tokens, the model embeds 90", where=shell.place("source"))


@pytest.mark.parametrize("batching", ["padded", "packed"])
def test_a_row_longer_than_the_models_positions_is_refused(
    shell: Shell, recipe: dict[str, Any], model: Path, batching: str
) -> None:
    tiny_model(max_position_embeddings=32).save_pretrained(model)
    recipe["batching"] = {"name": batching, "max_length": 64}
    answer = shell.run(recipe)
    answer.refuses(5, "the model has positions for 32", "set batching.max_length = 32", where=shell.place("max_length"))


@pytest.mark.parametrize("attention", ["flash_attention_2", "flesh"])
def test_an_attention_that_is_not_there_is_refused(shell: Shell, recipe: dict[str, Any], attention: str) -> None:
    recipe["model"]["attention"] = attention
    answer = shell.run(recipe)
    answer.refuses(5, f'leave model.attention = "{attention}" out', '"sdpa"', where=shell.place("source"))


# -- where it is ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("./tinny", ("' does not exist", "did you mean '", "/tiny'")),
        ("models/deep/tiny", ("' does not exist",)),
        ("rows.jsonl", ("is a file, but not a GGUF", "name the model's folder")),
        ("config:tiny/konfig.json", ("' does not exist", "config: takes a model's config.json")),
        ("package:no_such_package", ("no installed package is named 'no_such_package'", "pip install no-such-package")),
        ("package:json", ("which model of the package 'json'?", "it holds no .gguf file")),
    ],
)
def test_a_source_that_does_not_exist_is_refused(
    shell: Shell, recipe: dict[str, Any], source: str, said: tuple[str, ...]
) -> None:
    recipe["model"] = {"source": source}
    answer = shell.run(recipe)
    answer.refuses(5, *said, where=shell.place("source"))


@pytest.mark.parametrize(
    ("source", "said"), [("acme/tiny", ()), ("tinny", ("did you mean '", "/tiny'?")), ("gpt2", ())]
)
def test_a_hub_id_while_offline_is_refused(
    shell: Shell, recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch, source: str, said: tuple[str, ...]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    recipe["model"] = {"source": source}
    answer = shell.run(recipe)
    hint = "unset HF_HUB_OFFLINE, or name a local folder"
    answer.refuses(5, f"cannot load the tokenizer of '{source}'", hint, *said, where=shell.place("source"))


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGUF" + b"\xff" * 100, b"no gguf"])
def test_a_broken_gguf_file_is_refused(shell: Shell, recipe: dict[str, Any], content: bytes) -> None:
    pytest.importorskip("gguf")
    (shell.folder / "model.gguf").write_bytes(content)
    recipe["model"] = {"source": "model.gguf"}
    answer = shell.run(recipe)
    answer.refuses(5, "cannot load the tokenizer", where=shell.place("source"))


# -- the chat template ---------------------------------------------------------------------------------------------

TEMPLATES = {
    "none": (None, ("has no chat template", "fails even on one question and its answer")),
    "raises": (RAISES, ("Roles must alternate!", "fails even on one question and its answer")),
    "no Jinja": ("{% for %}", ("fails even on one question and its answer",)),
    "undefined": ("{{ nothing.at.all }}", ("'nothing' is undefined",)),
    "loops for very long": ("{% for i in range(10**9) %}x{% endfor %}", ("Range too big",)),
    "drops the answers": (
        DROPS,
        ("leaves out the text of message 2, '0 is 0.'", "fails even on one question and its answer"),
    ),
    "writes nothing": ("nothing", ("fails even on one question and its answer",)),
    "never ends a turn": (UNENDED, ("never ends", "would never learn to stop")),
}


@pytest.mark.parametrize("where", ["tokenizer", "recipe"])
@pytest.mark.parametrize("kind", TEMPLATES)
def test_a_chat_template_that_cannot_be_learned_from_is_the_models_fault(
    shell: Shell, recipe: dict[str, Any], model: Path, kind: str, where: str
) -> None:
    template, said = TEMPLATES[kind]
    (model / "chat_template.jinja").unlink()
    if template is not None and where == "tokenizer":
        (model / "chat_template.jinja").write_text(template)
    elif template is not None:
        (shell.folder / "own.jinja").write_text(template)
        recipe["model"]["chat_template"] = "own.jinja"
    answer = shell.run(recipe)
    if kind == "no Jinja" and where == "recipe":
        answer.refuses(5, "the chat template is not valid Jinja", where=f"{shell.folder / 'own.jinja'}:1")
        return
    row = f"{shell.folder / 'rows.jsonl'}:1"
    place = shell.place("chat_template") if where == "recipe" and template else shell.place("model]")
    answer.refuses(5, *said, row, 'chat_template = "chatml"', "a Jinja file", where=place)


def test_a_template_that_refuses_one_row_is_the_rows_fault(shell: Shell, recipe: dict[str, Any], model: Path) -> None:
    picky = "{% if messages[0]['content'] == 'What is 5?' %}{{ raise_exception('No fives!') }}{% endif %}"
    ends = picky + TURNS + "{{ message['content'] + '<|im_end|>' }}{% endfor %}" + ASKS
    (model / "chat_template.jinja").write_text(ends)
    answer = shell.run(recipe)
    answer.refuses(4, "the chat template refuses this conversation", "No fives!", where=f"{shell.folder}/rows.jsonl:6")


def test_text_needs_no_template(shell: Shell, recipe: dict[str, Any], model: Path, rows: Path) -> None:
    (model / "chat_template.jinja").unlink()
    rows.write_text('{"text": "a b c"}\n' * 4)
    recipe["data"] = {"train": [{"path": rows.name, "format": "text"}]}
    assert shell.run(recipe, "-q").code == 0


@pytest.mark.parametrize("kind", ["missing", "folder", "UTF-16"])
def test_a_template_file_that_cannot_be_read_is_refused(
    shell: Shell, recipe: dict[str, Any], model: Path, kind: str
) -> None:
    file = shell.folder / "own.jinja"
    if kind == "folder":
        file.mkdir()
    elif kind == "UTF-16":
        file.write_text(UNENDED, encoding="utf-16")
    else:
        file.with_name("owm.jinja").write_text(UNENDED)
    recipe["model"]["chat_template"] = file.name
    answer = shell.run(recipe)
    if kind == "UTF-16":
        answer.refuses(5, "UTF-16", "save it as UTF-8", where=str(file))
        return
    said = ("no such file", "did you mean", "owm.jinja") if kind == "missing" else ("this is a folder", "chatml")
    answer.refuses(5, str(file), *said, where=shell.place("chat_template"))


def test_generation_marks_of_any_spelling_are_valid(shell: Shell, recipe: dict[str, Any], model: Path) -> None:
    marked = "{{ message['content'] }}{%- generation -%}{{ '<|im_end|>' }}{%- endgeneration -%}{% endfor %}"
    (shell.folder / "own.jinja").write_text(TURNS + marked + ASKS)
    recipe["model"]["chat_template"] = "own.jinja"
    assert shell.run(recipe, "-q").code == 0
    assert shell.main("preview", str(shell.recipe)).code == 0


def test_chatml_needs_its_tokens(shell: Shell, recipe: dict[str, Any], model: Path) -> None:
    file = model / "tokenizer.json"
    file.write_text(file.read_text().replace("<|im_start|>", "<|begin|>"))
    change(model / "tokenizer_config.json", additional_special_tokens=["<|begin|>"], extra_special_tokens=None)
    recipe["model"]["chat_template"] = "chatml"
    answer = shell.run(recipe)
    answer.refuses(5, "needs the tokens <|im_start|>", "write a Jinja file", where=shell.place("chat_template"))


# -- other verbs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["preview", "run --dry-run"])
def test_other_verbs_refuse_it_too(shell: Shell, recipe: dict[str, Any], model: Path, verb: str) -> None:
    (model / "chat_template.jinja").write_text(RAISES)
    shell.write(recipe)
    verb, *words = verb.split()
    shell.call(verb, *words).refuses(5, "Roles must alternate!", where=shell.place("model]"))


@pytest.mark.parametrize("spoil", [truncated, broken_tokenizer], ids=["weights", "tokenizer"])
def test_generate_refuses_a_broken_folder(shell: Shell, model: Path, spoil: Callable[[Path], None]) -> None:
    spoil(model)
    shell.main("generate", str(model), "Hello?").refuses(5, f"cannot load the model of '{model}'", "*.safetensors")
