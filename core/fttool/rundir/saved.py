"""A saved model and its tokenizer, for the verbs that ask it."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from fttool.contracts.model import LoadOptions, ModelSource, SourceContext
from fttool.errors import ModelError, UsageError, did_you_mean, gist
from fttool.machine import quiet_libraries, stay_local
from fttool.plugins import Plugins
from fttool.recipe.closed import expand
from fttool.textfile import obstacle

TEXT = "CausalLM"
"""What transformers calls models that write text: `AutoModelFor…`."""


def model_folder(run: Path) -> Path:
    """The folder of a run's final model, or any model's folder itself; `UsageError` where there is none."""
    folder = run / "model" if (run / "model").is_dir() else run
    if not (folder / "config.json").is_file():
        missing = None if run.exists() else obstacle(run)
        hint = missing.hint if missing else "name a finished run's directory"
        raise UsageError(f"no model found in '{run}'", hint=hint)
    return folder


def refuse_no_model(run: Path) -> None:
    """Raise `UsageError` where this is neither a run or folder with a model nor a model source."""
    if source_of(run) is None:
        model_folder(run)


def source_of(text: Path) -> ModelSource | None:
    """The model source that is meant, such as `builtin:tiny-chat`; None for what is a path.

    A hub id alone may be a run's directory that is misspelt, so it is one only as `pretrained:owner/name`.
    """
    scheme, colon, _ = str(text).partition(":")
    if text.is_file() and text.suffix == ".gguf":
        scheme = str(ModelSource.place.default)
    elif not colon or len(scheme) < 2 or text.exists():
        return None
    prefix, dot, _ = scheme.partition(".")
    known = {candidate.id(): candidate for candidate in Plugins.discover().family("model", [prefix] if dot else [])}
    if scheme not in known:
        raise UsageError(f"unknown model source '{scheme}'", hint=did_you_mean(scheme, sorted(known)))
    try:
        return cast("ModelSource", known[scheme].model_validate(expand(ModelSource, str(text))))
    except ValidationError as wrong:
        raise UsageError(f"'{text}' is not a model source: {wrong.errors()[0]['msg']}") from None


def template_variables(run: Path) -> dict[str, Any]:
    """The variables of the chat template that all rows of a run had, with their values; none for a model's folder."""
    try:
        summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
        return dict(summary["template_variables"])
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def model_head(run: Path) -> str:
    """What the model of a run or model folder is for, as in the names of transformers' classes (`AutoModelFor…`):
    `CausalLM`, `SequenceClassification`, `TokenClassification` … A model source is asked for text.

    Raises `UsageError` where there is no model.
    """
    if source_of(run) is not None:
        return TEXT
    try:
        config = json.loads((model_folder(run) / "config.json").read_text(encoding="utf-8"))
        kinds = [str(kind) for kind in config.get("architectures") or []]
    except (OSError, ValueError, AttributeError):
        return TEXT  # said where the model is loaded
    heads = [match[1] for kind in kinds if (match := re.search(r"For(\w*Classification)$", kind))]
    return heads[0] if heads else TEXT


@contextmanager
def saved_model(run: Path, head: str, *, trust_remote_code: bool = False) -> Generator[tuple[Any, Any]]:
    """Tokenizer and model of a run, model folder or model source, in evaluation mode, on the GPU where there is one.

    Meanwhile the libraries stay quiet, and off the network but for a source on the hub. Raises `UsageError` where the
    model has another head than `head`, see `model_head`, and `ModelError` where it cannot be loaded.
    """
    _refuse_other_head(run, head)
    source = source_of(run)
    if source is not None:
        yield _from_source(source, head, trust_remote_code=trust_remote_code)
        return
    folder = model_folder(run)
    if (folder / "adapter_config.json").is_file() and find_spec("peft") is None:  # transformers would pass over it
        raise ModelError(f"'{folder}' holds an adapter, and peft is not installed", hint="pip install peft")
    stay_local()

    import transformers
    from transformers.utils import logging

    from fttool.machine import device

    logging.set_verbosity_error()
    model_class: Any = getattr(transformers, f"AutoModelFor{head}")
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


def _from_source(source: ModelSource, head: str, *, trust_remote_code: bool) -> tuple[Any, Any]:
    """Tokenizer and model as a run would begin with them."""
    quiet_libraries(network=source.needs_network(Path()))
    import torch
    import transformers

    from fttool.machine import device, native_bf16

    transformers.logging.set_verbosity_error()
    model_class: Any = getattr(transformers, f"AutoModelFor{head}")
    place = SourceContext(folder=Path(), trust_remote_code=trust_remote_code, seed=0)
    dtype = torch.bfloat16 if device().type != "cpu" and native_bf16(device()) else torch.float32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaders = source.build(place)
        model: Any = loaders.model(LoadOptions(model_class=model_class, dtype=dtype, attention=None))
        return loaders.tokenizer(), model.to(device()).eval()


def _refuse_other_head(run: Path, head: str) -> None:
    """transformers would load it all the same, with a randomly initialised head."""
    own = model_head(run)
    if own == head:
        return
    if head == TEXT:
        raise UsageError(f"the model of '{run}' tells classes apart", hint=f'fttool predict {run} --text "…"')
    if own == TEXT:
        raise UsageError(f"the model of '{run}' has no classes: it writes text", hint=f'fttool generate {run} "…"')
    raise UsageError(f"the model of '{run}' is one for {own}, not for {head}", hint="name another run or model")
