"""What a run must write at its end, tried before its first update: can it be saved?"""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fttool import disk
from fttool.errors import ModelError, Problem, gist

WRITTEN = ("dtype", "architectures")
"""What transformers writes into a configuration when a model is saved."""


def refuse_unsavable(model: Any, tokenizer: Any) -> None:
    """Save all of a model but its weights into a scratch folder; raises `ModelError` where that cannot be done.

    That is its configurations, code of its own, the tokenizer and the templates. Of the weights, tensors that share
    memory are looked at, as safetensors takes none of them that the model does not declare.
    """
    for name in _template_names(tokenizer):
        if Path(name).name != name or name in (".", ".."):
            message = (
                f"the tokenizer has a chat template named '{name}', which cannot be a file name: it cannot be saved"
            )
            raise ModelError(Problem(message, hint=_REPAIR, key=("model", "source")))
    with tempfile.TemporaryDirectory(prefix="fttool-") as scratch:
        for what, save in (
            ("tokenizer or its chat template", lambda: tokenizer.save_pretrained(scratch)),
            ("model's configuration or code", lambda: model.save_pretrained(scratch, state_dict={})),
            ("model's weights", lambda: _refuse_shared(model)),
        ):
            try:
                with _as_it_was(model.config):
                    save()
            except Exception as fault:
                if disk.refusal(fault) is not None:
                    raise
                message = f"the {what} cannot be saved: {gist(fault)}"
                raise ModelError(Problem(message, hint=_REPAIR, key=("model", "source"))) from fault


_REPAIR = "the run would end without a model: fix it in the model's folder, or name another model.source"


def _template_names(tokenizer: Any) -> Iterable[str]:
    templates: Any = getattr(tokenizer, "chat_template", None)
    return list(map(str, templates)) if isinstance(templates, dict) else []


@contextmanager
def _as_it_was(config: Any) -> Generator[None]:
    """Take back what saving writes into a configuration."""
    before = {name: getattr(config, name, None) for name in WRITTEN}
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(config, name, value)


def _refuse_shared(model: Any) -> None:
    """Raise where tensors share memory and the model does not say that they are tied."""
    from transformers.modeling_utils import remove_tied_weights_from_state_dict

    remove_tied_weights_from_state_dict(dict(model.state_dict()), model)
