"""`pretrained`: a hub id, a folder, or a GGUF file; what a bare string under `[model] source` means."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fttool.api import LoadOptions, ModelError, ModelSource, Source, SourceContext
from fttool_plugins.model import loading

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Pretrained(ModelSource):
    """A model by path or hub id: a folder with safetensors, a `.gguf` file (extra `gguf`), or `owner/name` on the hub.

    A local path wins over a hub id of the same spelling. The hub is asked only when no such path exists and the name
    looks like an id; gated models need `HF_TOKEN` in the environment.
    """

    name: Literal["pretrained"] = "pretrained"
    revision: str | None = None
    """Commit, tag or branch on the hub; default: the main branch."""

    def needs_network(self, folder: Path) -> bool:
        """True for a hub id: a name that no local path has."""
        return not loading.local(folder, self.path).exists()

    def build(self, ctx: SourceContext) -> Source:
        """Yield the loaders; a path that does not exist is a `ModelError` with the nearest names."""
        local = loading.local(ctx.folder, self.path)
        if local.is_file():
            return gguf(local, {"path": str(local)})
        if local.is_dir():
            loading.check_folder(local, ctx.trust_remote_code)
            options: dict[str, Any] = {"trust_remote_code": ctx.trust_remote_code, "local_files_only": True}
            return Source(
                tokenizer=lambda: loading.tokenizer(local, **options),
                model=lambda load: loading.model(local, load, **options),
                origin={"path": str(local), **loading.folder_hashes(local)},
                stored=lambda: loading.stored(local),
            )
        if not _looks_like_hub_id(self.path):
            raise ModelError(f"there is no '{local}'", hint=_nearest(local) or "name a model's folder or GGUF file")
        return self._on_the_hub(near=_nearest(local), trust_remote_code=ctx.trust_remote_code)

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
    if file.suffix != ".gguf":
        raise ModelError(f"'{file}' is a file, but no GGUF", hint="name the model's folder")
    return Source(
        tokenizer=lambda: loading.tokenizer(file.parent, gguf_file=file.name),
        model=lambda load: loading.model(file.parent, load, gguf_file=file.name),
        origin={**origin, **loading.hashes(file)},
    )


def _looks_like_hub_id(text: str) -> bool:
    return (
        not text.endswith(".gguf")
        and not text.startswith((".", "/", "~"))
        and text.count("/") <= 1
        and "\\" not in text
    )


def _nearest(path: Path) -> str:
    """Names near a missing path, in the deepest folder of it that exists; empty where there are none."""
    parent = next(folder for folder in path.parents if folder.is_dir())
    wanted = path.relative_to(parent).parts[0]
    near = difflib.get_close_matches(wanted, [child.name for child in parent.iterdir()], n=3)
    return f"did you mean {' or '.join(repr(str(parent / name)) for name in near)}?" if near else ""
