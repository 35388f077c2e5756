"""`builtin`: the models inside fttool itself, for first runs and tests without a download."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Literal

from typing_extensions import override

from fttool.api import ModelSource, Source, SourceContext
from fttool_plugins.model import loading


class Builtin(ModelSource):
    """A model that comes with fttool: `builtin:tiny-chat`, a small Llama chat model pre-trained on Python's own
    documentation. It is for trying things, not for use.
    """

    name: Literal["builtin"] = "builtin"
    path: Literal["tiny-chat"] = "tiny-chat"  # pyright: ignore[reportIncompatibleVariableOverride] - it is frozen
    """Which one."""

    @override
    def build(self, ctx: SourceContext) -> Source:
        folder = Path(str(files("fttool_plugins.model"))) / self.path.replace("-", "_")
        return Source(
            tokenizer=lambda: loading.tokenizer(folder, local_files_only=True),
            model=lambda load: loading.model(folder, load, local_files_only=True),
            origin={"builtin": self.path, **loading.folder_hashes(folder)},
            stored=lambda: loading.stored(folder),
        )
