"""A model's folder or GGUF file, with nothing around it but transformers: as most people load it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from typing_extensions import override

from fttool.api import Message, ModelError, UsageError, chat_ids
from fttool.verbs import gist
from fttool_plugins.verbs.check_template.others import Other, RefusedError


class Transformers(Other):
    """A tokenizer and a model as transformers reads them."""

    def __init__(self, path: Path, trust_remote_code: bool) -> None:
        from transformers import AutoTokenizer, GenerationConfig

        folder = path / "model" if (path / "model").is_dir() else path
        file = {"gguf_file": path.name} if path.is_file() else {}
        folder = path.parent if file else folder
        if not folder.is_dir():
            raise UsageError(f"'{path}' is neither a folder with a model nor a file", hint="or write http://…")
        self.name = str(path)
        self._options = {"local_files_only": True, "trust_remote_code": trust_remote_code, **file}
        self._folder = str(folder)
        self._tokenizer: Any = self._loaded(AutoTokenizer, "tokenizer")
        self._stops = {self._tokenizer.eos_token_id}
        if (folder / "generation_config.json").is_file() and not file:
            ends: Any = GenerationConfig.from_pretrained(str(folder)).eos_token_id
            self._stops = set(ends) if isinstance(ends, list) else {ends} if ends is not None else self._stops

    @override
    def prompt(self, messages: Sequence[Message], template: Mapping[str, Any]) -> list[int]:
        try:
            return chat_ids(self._tokenizer, messages, add_generation_prompt=True, **template)
        except ModelError:
            raise
        except Exception as fault:  # a template is foreign code: it may raise anything
            raise RefusedError(f"its chat template fails: {gist(fault)}", where=self.name) from fault

    @override
    def plain(self, text: str) -> list[int]:
        return list(self._tokenizer(text)["input_ids"])

    @override
    def stops_at(self, token: int, text: str) -> str:
        known = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        if list(known) != [token]:
            return f"{text!r} is not one token there, or another one"
        ends = [self._tokenizer.decode([stop]) for stop in self._stops if isinstance(stop, int)]
        if token in self._stops:
            return ""
        listed = " or ".join(map(repr, ends)) or "no token"
        return f"it ends an answer at {listed}, and training ends it with {text!r}"

    @override
    def log_probabilities(self, ids: Sequence[int], places: Sequence[int]) -> list[float | None]:
        from fttool_plugins.verbs.check_template.losses import log_probabilities

        if "gguf_file" not in self._options and not (Path(self._folder) / "config.json").is_file():
            return []  # a tokenizer alone
        return list(log_probabilities(self._model, ids, places))

    @cached_property
    def _model(self) -> Any:
        from transformers import AutoModelForCausalLM

        model = self._loaded(AutoModelForCausalLM, "model")
        stored = _stored(Path(self.name)) if "gguf_file" in self._options else ""
        self.number_format = stored or str(model.dtype).removeprefix("torch.")
        return model.eval()

    def _loaded(self, kind: Any, what: str) -> Any:
        try:
            return kind.from_pretrained(self._folder, **self._options)
        except Exception as fault:  # transformers raises a dozen kinds
            message = f"its {what} cannot be loaded: {gist(fault)}"
            raise ModelError(message, where=self.name, hint="name another folder") from fault


def _stored(file: Path) -> str:
    """The number format that most weights of a GGUF file have, by its name there."""
    from gguf import GGUFReader

    sizes = Counter[str]()
    for tensor in GGUFReader(file).tensors:
        sizes[tensor.tensor_type.name] += int(tensor.n_elements)
    return sizes.most_common(1)[0][0]
