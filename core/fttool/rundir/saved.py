"""A saved model and its tokenizer, for the verbs that ask it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from fttool.errors import ModelError, UsageError, gist
from fttool.machine import stay_local

CLASSIFIER = "ForSequenceClassification"
"""How the names of transformers' classes end whose models tell classes apart."""


def model_folder(run: Path) -> Path:
    """The folder of a run's final model, or any model's folder itself; `UsageError` where there is none."""
    folder = run / "model" if (run / "model").is_dir() else run
    if not (folder / "config.json").is_file():
        raise UsageError(f"there is no model in '{run}'", hint="name a finished run's directory")
    return folder


def template_variables(run: Path) -> dict[str, Any]:
    """The variables of the chat template that all rows of a run had, with their values; none for a model's folder."""
    try:
        summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
        return dict(summary["template_variables"])
    except (OSError, ValueError, TypeError, KeyError):
        return {}


@contextmanager
def saved_model(
    run: Path, says: Literal["text", "classes"], *, trust_remote_code: bool = False
) -> Generator[tuple[Any, Any]]:
    """Tokenizer and model of a run or model folder, in evaluation mode, on the GPU where there is one.

    Meanwhile the libraries stay quiet and off the network. Raises `UsageError` where the model `says` something else,
    and `ModelError` where it cannot be loaded.
    """
    folder = model_folder(run)
    _refuse_other_kind(folder, says, run)
    if (folder / "adapter_config.json").is_file() and find_spec("peft") is None:  # transformers would pass over it
        raise ModelError(f"'{folder}' holds an adapter, and peft is not installed", hint="pip install peft")
    stay_local()

    import transformers
    from transformers.utils import logging

    from fttool.machine import device

    logging.set_verbosity_error()
    model_class: Any = (
        transformers.AutoModelForCausalLM if says == "text" else transformers.AutoModelForSequenceClassification
    )
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": trust_remote_code}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are for programmers, and would stand among the answers
        try:
            tokenizer: Any = transformers.AutoTokenizer.from_pretrained(str(folder), **local)
            model = model_class.from_pretrained(str(folder), use_safetensors=True, **local)
        except Exception as fault:  # transformers raises a dozen kinds for a bad folder
            hint = "it needs config.json, *.safetensors and the tokenizer's files"
            if "trust_remote_code" in str(fault):
                hint = "the folder has Python code of its own: read it, then add --trust-remote-code"
            raise ModelError(f"cannot load the model of '{folder}': {gist(fault)}", hint=hint) from fault
        yield tokenizer, model.to(device()).eval()


def _refuse_other_kind(folder: Path, says: str, run: Path) -> None:
    """transformers would load it all the same, with a head drawn at random."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kinds = [str(kind) for kind in config.get("architectures") or []]
    except (OSError, ValueError, AttributeError):
        return  # said where the model is loaded
    if kinds and says != ("classes" if all(kind.endswith(CLASSIFIER) for kind in kinds) else "text"):
        if says == "text":
            raise UsageError(f"the model of '{run}' tells classes apart", hint=f'fttool predict {run} --text "…"')
        raise UsageError(f"the model of '{run}' has no classes: it writes text", hint=f'fttool generate {run} "…"')
