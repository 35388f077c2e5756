"""`pretrained`: a hub id, a folder, or a GGUF file; what a bare string under `[model] source` means."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from typing_extensions import override

from fttool.api import LoadOptions, ModelError, ModelSource, Problem, Source, SourceContext
from fttool_plugins.model import loading

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from fttool.api import Recipe


class Pretrained(ModelSource):
    """A model by path or hub id: a folder with safetensors, a `.gguf` file (extra `gguf`), or `owner/name` on the hub.

    A local path wins over a hub id of the same spelling. The hub is asked only when no such path exists and the name
    looks like an id; gated models need `HF_TOKEN` in the environment.
    """

    name: Literal["pretrained"] = "pretrained"
    revision: str | None = None
    """Commit, tag or branch on the hub; default: the main branch."""

    @override
    def needs_network(self, folder: Path) -> bool:
        """True for a hub id: a name that no local path has."""
        return not loading.local(folder, self.path).exists()

    @override
    def check_files(self, recipe: Recipe, folder: Path) -> Iterable[Problem]:
        """Refuse a path that does not exist, a folder that holds no model, and a file that is not GGUF."""
        return loading.refusal(lambda: self._place(folder, recipe.model.trust_remote_code))

    @override
    def build(self, ctx: SourceContext) -> Source:
        """Yield the loaders; a path that does not exist is a `ModelError` with the nearest names."""
        place = self._place(ctx.folder, ctx.trust_remote_code)
        if place is None:
            near = loading.nearest(loading.local(ctx.folder, self.path))
            return self._on_the_hub(near=near, trust_remote_code=ctx.trust_remote_code)
        if place.is_file():
            return gguf(place, {"path": str(place)})
        options: dict[str, Any] = {"trust_remote_code": ctx.trust_remote_code, "local_files_only": True}
        return Source(
            tokenizer=lambda: loading.tokenizer(place, **options),
            model=lambda load: loading.model(place, load, **options),
            origin={"path": str(place), **loading.folder_hashes(place)},
            stored=lambda: loading.stored(place),
        )

    def _place(self, folder: Path, trust_remote_code: bool) -> Path | None:
        """The folder or GGUF file that is named, or None for a hub id; raises `ModelError` for what is neither."""
        local = loading.local(folder, self.path)
        if local.is_file():
            refuse_other_files(local)
        elif local.is_dir():
            loading.check_folder(local, trust_remote_code)
        elif self._is_hub_id(folder):
            return None
        else:
            hint = loading.nearest(local) or "name a model's folder or GGUF file"
            if self._may_be_hub_id():
                hint += '; a model on the hub is meant for certain with model.source = {path = "…", revision = "main"}'
            raise ModelError(f"'{local}' does not exist", hint=hint)
        return local

    def _is_hub_id(self, folder: Path) -> bool:
        """Of what no path has: `owner/name` is one, unless there is a folder `owner` here and no revision is named."""
        first, slash, _ = self.path.partition("/")
        return self._may_be_hub_id() and not (slash and self.revision is None and (folder / first).is_dir())

    def _may_be_hub_id(self) -> bool:
        path = self.path
        local = path.endswith(".gguf") or path.startswith((".", "/", "~")) or "\\" in path
        return not local and path.count("/") <= 1

    def _on_the_hub(self, near: str, trust_remote_code: bool) -> Source:
        options: dict[str, Any] = {"trust_remote_code": trust_remote_code, "revision": self.revision}
        origin = {"hub": self.path, "revision": self.revision or "main"}

        def model(load: LoadOptions) -> PreTrainedModel:
            loaded = loading.model(self.path, load, **options)
            origin.update(loading.commit(self.path, self.revision))
            return loaded

        return Source(
            tokenizer=lambda: loading.tokenizer(self.path, near=near, **options),
            model=model,
            origin=origin,
            stored=lambda: loading.stored(place) if (place := loading.snapshot(self.path, self.revision)) else {},
        )


def gguf(file: Path, origin: dict[str, str]) -> Source:
    """Loaders for a GGUF file; its weights are de-quantized."""
    return Source(
        tokenizer=lambda: loading.tokenizer(file.parent, gguf_file=file.name),
        model=lambda load: loading.model(file.parent, load, gguf_file=file.name),
        origin={**origin, **loading.hashes(file)},
    )


def refuse_other_files(file: Path) -> None:
    """Raise `ModelError` for a file that is not GGUF by its name."""
    if file.suffix != ".gguf":
        raise ModelError(f"'{file}' is a file, but not a GGUF", hint="name the model's folder")
