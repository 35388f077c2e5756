"""Load a model or tokenizer with transformers, and turn what can go wrong into words; shared by the model sources.

Weights are read from safetensors or GGUF only: a pickle can run code.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from logging import WARNING
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fttool.api import LoadOptions, ModelError, Problem, layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

HASHED_UP_TO = 2**31
"""Bytes; a larger file is recorded by its size alone, as hashing it would delay every start."""


def tokenizer(where: str | Path, near: str = "", **options: Any) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder, hub id, or (with `gguf_file`) a GGUF file; `near` says which local path was meant."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(where), **options)
    except Exception as fault:  # tokenizers raises a bare Exception for a broken tokenizer.json
        hint = "; ".join(filter(None, (_hint(fault), near)))
        raise ModelError(f"cannot load the tokenizer of '{where}': {_first_line(fault)}", hint=hint) from fault


def stored(folder: Path) -> dict[str, str]:
    """The number format of each weight in a folder's files."""
    from fttool.api import stored_formats  # not above: it needs torch, and recipes are validated without

    return stored_formats(folder)


def model(where: str | Path, load: LoadOptions, **options: Any) -> PreTrainedModel:
    """The model of a folder, hub id, or (with `gguf_file`) a GGUF file, in the asked-for dtype."""
    if load.attention is not None:
        options["attn_implementation"] = load.attention
    if "gguf_file" not in options:
        options["use_safetensors"] = True
    if "id2label" in load.config:
        _refuse_another_order(where, load.config["id2label"], options)
        options["ignore_mismatched_sizes"] = True  # a head of other classes: looked at below
    try:
        with _without_report() if load.config else nullcontext():
            loaded, report = load.model_class.from_pretrained(
                str(where), dtype=load.dtype, output_loading_info=True, **options, **load.config
            )
    except Exception as fault:  # safetensors, huggingface_hub and transformers raise a dozen kinds for a bad folder
        hint = _hint(fault)
        if load.attention is not None and "attention" in str(fault).lower():
            hint = f'leave model.attention = "{load.attention}" out, or set it to "sdpa" or "eager"'
        raise ModelError(f"cannot load the model of '{where}': {_first_line(fault)}", hint=hint) from fault
    _refuse_adapter(where, getattr(loaded, "_hf_peft_config_loaded", False))
    newly_initialised = {*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])}
    _refuse_random_weights(where, loaded, set(newly_initialised))
    load.newly_initialised.update(newly_initialised)
    if "gguf_file" in options:
        _forget_quantizer(loaded)
    return loaded


@contextmanager
def _without_report() -> Generator[None]:
    """transformers warns of a new head, which is as it should be; what should not be new is looked at below."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    if before == WARNING:
        logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _refuse_another_order(where: str | Path, names: Mapping[int, str], options: Mapping[str, Any]) -> None:
    """Refuse a classifier of the same classes in another order: each would begin as another one."""
    from transformers import AutoConfig

    wanted = ("gguf_file", "revision", "trust_remote_code", "local_files_only")
    try:
        config: Any = AutoConfig.from_pretrained(str(where), **{key: options[key] for key in wanted if key in options})
    except Exception:  # said where the model is loaded, with the same cause
        return
    there = [config.id2label[number] for number in sorted(config.id2label)]
    if sorted(there) == sorted(names.values()) and there != list(names.values()):
        message = f"the model of '{where}' has these classes in another order"
        hint = f"go on with its order: task.labels = {json.dumps(there, ensure_ascii=False)}"
        raise ModelError(Problem(message, hint=hint, key=("task", "labels")))


def _refuse_adapter(where: str | Path, has_one: bool) -> None:
    """Refuse an adapter, alone or beside a model: without peft transformers passes over it in silence."""
    if has_one:
        raise ModelError(
            f"'{where}' holds an adapter (adapter_config.json)",
            hint="add it to the weights first: peft's merge_and_unload(); a run does so with freezing.merge = true",
        )


def _refuse_random_weights(where: str | Path, loaded: PreTrainedModel, missing: set[str]) -> None:
    """Refuse weights that the files lack: transformers initialises them at random and goes on.

    Only a model without a language-model head may have new ones, outside its embeddings and layers: a classifier.
    """
    if loaded.get_output_embeddings() is None:
        parts = layers(loaded)
        missing &= {*parts.embeddings, *(name for block in parts.blocks for name in block)}
    if missing:
        first = ", ".join(sorted(missing)[:3])
        raise ModelError(
            f"the weights of '{where}' lack {len(missing)} of the model's tensors ({first} …)",
            hint="do config.json and the weights belong together? download the folder again",
        )


def _forget_quantizer(loaded: Any) -> None:
    """GGUF weights are de-quantized while they load; the marks that stay behind would forbid training and saving."""
    for mark in ("hf_quantizer", "is_quantized", "quantization_method"):
        if mark in vars(loaded):
            delattr(loaded, mark)
    if hasattr(loaded.config, "quantization_config"):
        del loaded.config.quantization_config


def local(folder: Path, text: str) -> Path:
    """The absolute path that a recipe means, whether it exists or not; `ModelError` for what no path can be."""
    try:
        path = (folder / Path(text).expanduser()).resolve()
        path.exists()  # a name that is too long is found only by asking
    except (ValueError, RuntimeError, OSError) as fault:
        raise ModelError(
            f"no path is spelled {text[:60]!r}: {_first_line(fault)}", hint="name a model's folder, file or hub id"
        ) from fault
    return path


def commit(hub_id: str, revision: str | None) -> Mapping[str, str]:
    """The commit of a hub model as `{"commit": …}`, known once it is loaded: the snapshot that its config lies in."""
    folder = snapshot(hub_id, revision)
    return {} if folder is None else {"commit": folder.name}


def snapshot(hub_id: str, revision: str | None) -> Path | None:
    """The folder in which a hub model lies on this machine once it is loaded; its name is the commit."""
    from huggingface_hub import try_to_load_from_cache

    config_file = try_to_load_from_cache(hub_id, "config.json", revision=revision)
    return Path(config_file).parent if isinstance(config_file, str) else None


def refusal(find: Callable[[], object]) -> Sequence[Problem]:
    """What keeps a source from finding its files."""
    try:
        find()
    except ModelError as wrong:
        return wrong.problems
    return ()


def nearest(path: Path) -> str:
    """Names near a missing path, in the deepest folder of it that exists; empty where there are none."""
    parent = next(folder for folder in path.parents if folder.is_dir())
    wanted = path.relative_to(parent).parts[0]
    near = difflib.get_close_matches(wanted, [child.name for child in parent.iterdir()], n=3)
    return f"did you mean {' or '.join(repr(str(parent / name)) for name in near)}?" if near else ""


def check_folder(folder: Path, trust_remote_code: bool) -> None:
    """Refuse a folder that cannot be a model: no config, no safetensors, pickles only, or code of its own."""
    config_file = folder / "config.json"
    _refuse_adapter(folder, (folder / "adapter_config.json").is_file())
    if not config_file.is_file():
        raise ModelError(f"'{folder}' has no config.json", hint="name a folder that save_pretrained wrote")
    if not any(folder.glob("*.safetensors")):
        pickles = sorted(path.name for path in [*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")])
        if pickles:
            raise ModelError(
                f"'{folder}' holds only pickled weights ({', '.join(pickles[:3])}), which can run code when loaded",
                hint="convert them: model.save_pretrained(folder) writes safetensors",
            )
        raise ModelError(f"'{folder}' has no weights (no .safetensors file)", hint="use config:… for random weights")
    refuse_code(config_file, trust_remote_code)


def refuse_code(config_file: Path, trust_remote_code: bool) -> None:
    """Refuse a config whose `auto_map` names Python code, unless the recipe trusts it."""
    if "auto_map" in read_json(config_file) and not trust_remote_code:
        raise ModelError(
            f"'{config_file}' asks to run its own Python code (auto_map)",
            hint="read that code; then set model.trust_remote_code = true",
        )


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a model folder."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise ModelError(f"cannot read '{path}': {_first_line(fault)}", hint="download or write it again") from fault


def hashes(*paths: Path) -> Mapping[str, str]:
    """`sha256:…` of each file, or `bytes:…` of one too large to hash at every start."""
    digests: dict[str, str] = {}
    for path in sorted(paths):
        size = path.stat().st_size
        if size > HASHED_UP_TO:
            digests[path.name] = f"bytes:{size}"
            continue
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
        digests[path.name] = f"sha256:{digest.hexdigest()}"
    return digests


def folder_hashes(folder: Path) -> Mapping[str, str]:
    """Hashes of the config, weights and tokenizer files of a model folder."""
    kinds = ("*.safetensors", "*.json", "*.jinja", "*.model")
    return hashes(*{path for kind in kinds for path in folder.glob(kind)})


def _first_line(fault: BaseException) -> str:
    lines = str(fault).strip().splitlines()
    return lines[0] if lines else type(fault).__name__


def _hint(fault: BaseException) -> str:
    text = str(fault)
    if "gguf" in text.lower() and isinstance(fault, ImportError):
        return "pip install gguf"
    if "offline" in text.lower() or "couldn't connect" in text.lower() or "HF_HUB_OFFLINE" in text:
        return "the hub cannot be reached: unset HF_HUB_OFFLINE, or name a local folder"
    return "a model folder needs config.json, *.safetensors and the tokenizer's files"
