"""`acme.soup`: the average of several models that were fine-tuned from one (Wortsman et al. 2022, arXiv 2203.05482)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fttool.api import LoadOptions, ModelError, ModelSource, Problem, Source, SourceContext, stored_formats

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from fttool.api import Recipe

FILES = ("*.safetensors", "config.json", "tokenizer.json")
"""What makes a model: these are hashed, so that a run can be told to be of another one."""


class Soup(ModelSource):
    """The plain average of all models whose folders match a pattern, e.g. `acme.soup:runs/quiz-*/model`.

    The models must be of one kind: runs from one start that differ in seed, rate or rows. Their average is often
    better than the best of them, at the cost of none: it is one model. The tokenizer is that of the first folder.
    """

    name: Literal["acme.soup"] = "acme.soup"
    path: str
    """Pattern of folders that `save_pretrained` wrote, relative to the recipe's folder; `*` and `?` as in a shell."""

    def check_files(self, recipe: Recipe, folder: Path) -> Iterable[Problem]:
        """Refuse, before anything is loaded, what `build` refuses."""
        try:
            self._folders(folder)
        except ModelError as wrong:
            yield from wrong.problems

    def _folders(self, start: Path) -> list[Path]:
        """The models' folders; a pattern that fewer than two match is a `ModelError`."""
        folders = matching(start, self.path)
        if len(folders) < 2:
            found = f"only '{folders[0]}' matches" if folders else "no folder with a config.json matches"
            raise ModelError(f"{found} '{self.path}'", hint="a soup is of two models or more")
        return folders

    def build(self, ctx: SourceContext) -> Source:
        """Yield the loaders."""
        folders = self._folders(ctx.folder)

        def tokenizer() -> PreTrainedTokenizerBase:
            from transformers import AutoTokenizer

            return AutoTokenizer.from_pretrained(folders[0], local_files_only=True)

        return Source(
            tokenizer=tokenizer,
            model=lambda load: average(folders, load),
            origin={str(folder): digest(folder) for folder in folders},
            stored=lambda: stored_formats(folders[0]),
        )


def matching(start: Path, pattern: str) -> list[Path]:
    """The model folders that match, in the order of their names."""
    wanted = Path(pattern).expanduser()
    found = (Path(wanted.anchor) if wanted.anchor else start).glob(str(wanted.relative_to(wanted.anchor)))
    return sorted(folder.resolve() for folder in found if (folder / "config.json").is_file())


def average(folders: Sequence[Path], load: LoadOptions) -> PreTrainedModel:
    """θ = (θ₁ + … + θₙ)/n, summed in float32 and then cast; two models are in memory at once."""
    import torch

    soup: Any = read(folders[0], load)
    parts = dict(soup.named_parameters())
    with torch.no_grad():
        for folder in folders[1:]:
            other = dict(read(folder, load).named_parameters())
            if {name: p.shape for name, p in parts.items()} != {name: p.shape for name, p in other.items()}:
                message = f"'{folder}' has other weights than '{folders[0]}'"
                raise ModelError(message, hint="a soup is of models that were fine-tuned from one")
            for name, p in parts.items():
                p.add_(other[name])
        for p in parts.values():
            p.div_(len(folders))
    return soup.to(load.dtype)


def read(folder: Path, load: LoadOptions) -> PreTrainedModel:
    """One of the models, in float32; `ModelError` where it cannot be read or its files lack some weights."""
    import torch
    from safetensors import SafetensorError

    options: dict[str, Any] = dict(load.config)
    if load.attention is not None:
        options["attn_implementation"] = load.attention
    try:
        model, report = load.model_class.from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,  # a pickle can run code
            local_files_only=True,
            output_loading_info=True,
            **options,
        )
    except (OSError, ValueError, SafetensorError) as fault:
        hint = "a model's folder has config.json and model.safetensors"
        raise ModelError(f"cannot load the model of '{folder}': {fault}", hint=hint) from fault
    if missing := sorted(report["missing_keys"]):
        # transformers would draw them at random, anew for each model: their average means nothing.
        hint = f"leave '{folder}' out of the soup"
        raise ModelError(f"the weights of '{folder}' lack {', '.join(missing[:3])}", hint=hint)
    return model


def digest(folder: Path) -> str:
    """`sha256:…` over the names and the contents of a model's files."""
    total = hashlib.sha256()
    for file in sorted(path for pattern in FILES for path in folder.glob(pattern)):
        total.update(file.name.encode())
        with file.open("rb") as content:
            while block := content.read(2**20):
                total.update(block)
    return f"sha256:{total.hexdigest()}"
