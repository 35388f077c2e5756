"""A model's configuration and its tokenizer's as their source and the recipe have them: what a library changes on the
way is undone, and said.

A Trainer's constructor may write into the configuration of the model that it is given, and a new value there can change
what is computed, and is saved with the model. It gives a tokenizer without padding one, too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedConfig, PreTrainedTokenizerBase

WHILE_TRAINING = ("use_cache",)
"""What the Trainer may switch while the model trains, as it changes no result; set back when the model is saved."""
SAID_BY_SAVING = ("architectures", "dtype", "transformers_version")
"""What `save_pretrained` writes of the model that it saves, each time."""
OF_TOKENIZER = (
    "bos_token",
    "eos_token",
    "unk_token",
    "pad_token",
    "chat_template",
    "padding_side",
    "truncation_side",
    "model_max_length",
)
"""What may be set of a tokenizer."""


@dataclass(frozen=True)
class Change:
    """A value that is not what it was."""

    name: str
    """With that of the configuration inside which it stands: `text_config.use_cache`, `generation.eos_token_id`,
    `tokenizer.pad_token`."""
    was: Any
    """None also where there was no such value."""
    now: Any

    def __str__(self) -> str:
        return f"{self.name} = {self.now!r} (before: {self.was!r})"


class Configs:
    """The configuration of a model, those inside it, its settings for generation and its tokenizer's, as they are
    now.
    """

    def __init__(self, model: Any, tokenizer: Any = None) -> None:
        self.known = [(prefix, config, deepcopy(_values(config))) for prefix, config in _all(model, tokenizer)]

    def undo(self, but: Collection[str] = ()) -> list[Change]:
        """Set every value back, but those of these names; returns what had changed."""
        changes: list[Change] = []
        for prefix, config, before in self.known:
            now = _values(config)
            for name in [*before, *(name for name in now if name not in before)]:
                same = name in before and name in now and before[name] == now[name]
                if same or name in but or name in SAID_BY_SAVING:
                    continue
                changes.append(Change(prefix + name, before.get(name), now.get(name)))
                if name in before:
                    setattr(config, name, deepcopy(before[name]))
                else:
                    delattr(config, name)
        return changes


def _all(model: Any, tokenizer: Any) -> Iterator[tuple[str, Any]]:
    """Each configuration of the model, and the tokenizer, with what its names begin with."""
    yield from _nested("", model.config)
    if getattr(model, "generation_config", None) is not None:
        yield "generation.", model.generation_config
    if tokenizer is not None:
        yield "tokenizer.", tokenizer


def _nested(prefix: str, config: Any) -> Iterator[tuple[str, Any]]:
    yield prefix, config
    for name, value in vars(config).items():
        if isinstance(value, PreTrainedConfig):
            yield from _nested(f"{prefix}{name}.", value)


def _values(config: Any) -> dict[str, Any]:
    """What is saved of a configuration, without those inside it, or of a tokenizer."""
    if isinstance(config, PreTrainedTokenizerBase):
        return {name: getattr(config, name, None) for name in OF_TOKENIZER}
    return {
        name: value
        for name, value in vars(config).items()
        if not name.startswith("_") and not isinstance(value, PreTrainedConfig)
    }
