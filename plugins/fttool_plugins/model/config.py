"""`config`: random weights, from a configuration file and a tokenizer folder; for pre-training and tests."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from typing_extensions import override

from fttool.api import LoadOptions, ModelError, ModelSource, Problem, Source, SourceContext
from fttool_plugins.model import loading

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from fttool.api import Recipe


class Config(ModelSource):
    """A model of random weights, e.g. `config:tiny/config.json`, randomly initialised by the run's seed."""

    name: Literal["config"] = "config"
    tokenizer: str | None = None
    """Folder of the tokenizer; default: the folder of the configuration file."""

    @override
    def check_files(self, recipe: Recipe, folder: Path) -> Iterable[Problem]:
        """Refuse a configuration or a tokenizer's folder that is not there."""
        yield from loading.refusal(lambda: self._file(folder, recipe.model.trust_remote_code))
        if self.tokenizer is not None and not (there := loading.local(folder, self.tokenizer)).is_dir():
            hint = loading.nearest(there) or "name the folder of a tokenizer"
            yield Problem(f"there is no folder '{there}'", hint=hint, key=("tokenizer",))

    @override
    def build(self, ctx: SourceContext) -> Source:
        file = self._file(ctx.folder, ctx.trust_remote_code)
        folder = loading.local(ctx.folder, self.tokenizer) if self.tokenizer else file.parent
        return Source(
            tokenizer=lambda: loading.tokenizer(folder, local_files_only=True),
            model=lambda load: random_weights(file, load, ctx.seed),
            origin={"config": str(file), **loading.hashes(file), **loading.folder_hashes(folder)},
        )

    def _file(self, folder: Path, trust_remote_code: bool) -> Path:
        """The configuration; raises `ModelError`."""
        file = loading.local(folder, self.path)
        if not file.is_file():
            near = loading.nearest(file)
            hint = "config: takes a model's config.json"
            raise ModelError(f"'{file}' does not exist", hint=f"{near} {hint}" if near else hint)
        loading.refuse_code(file, trust_remote_code)
        return file


def random_weights(file: Path, load: LoadOptions, seed: int) -> PreTrainedModel:
    """A model of the file's architecture with randomly initialised weights."""
    import torch
    from transformers import AutoConfig, set_seed

    values = loading.read_json(file)
    if "model_type" not in values:
        raise ModelError(f"'{file}' has no model_type", hint='e.g. "model_type": "llama"')
    kind = values.pop("model_type")
    try:
        config = AutoConfig.for_model(kind, **{**values, **load.config})
    except ValueError as fault:
        raise ModelError(f"'{file}': {fault}", hint="name an architecture of transformers as model_type") from fault
    set_seed(seed)
    options = {} if load.attention is None else {"attn_implementation": load.attention}
    loaded = load.model_class.from_config(config, dtype=torch.float32, **options)
    return loaded.to(load.dtype)
