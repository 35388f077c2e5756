"""Rows that were prepared before: found again by all that they are made of, prepared once for all processes.

The name of what is kept is a hash of the files' bytes, the tokenizer, the chat template, what the recipe says of rows,
and the code of every strategy: a changed byte makes other rows, and nothing else does.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fttool.contracts.batches import Batching
from fttool.contracts.recipe import RowsTable
from fttool.contracts.strategy import Strategy, Track
from fttool.disk import alone, bytes_in, lock_beside, user_folder
from fttool.errors import DataError, gist
from fttool.plain import children
from fttool.recipe.loaded import Loaded
from fttool.rows import hub
from fttool.rows.data import prepare
from fttool.rows.encoding import untracked
from fttool.rows.files.source import fingerprint, fingerprint_of, named_paths
from fttool.rows.kept import NotKeptError, keep, kept, read_manifest
from fttool.rows.rows import Rows
from fttool.rundir.code import code_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FROM_BYTES = 2**20
"""Bytes of row files from which on prepared rows are kept: fewer are prepared as quickly as they are looked up."""
AT_MOST = 20 * 2**30
"""Bytes of all rows that are kept; those that were used longest ago go first."""
LIBRARIES = ("transformers", "tokenizers", "jinja2", "pyarrow")
"""What prepares rows beside the strategies."""


def cached_rows(loaded: Loaded, tokenizer: PreTrainedTokenizerBase, track: Track = untracked) -> Rows:
    """The rows of a recipe, as `prepare` makes them, or as they were kept.

    One process prepares rows that are kept, and others that want the same wait for it.

    Raises:
        DataError: as `prepare` does.
    """
    above = kept_rows_folder(loaded)
    if above is None or not _worth_it(loaded):
        return prepare(loaded, tokenizer, track=track)
    made_of = _made_of(loaded, tokenizer)
    place = above / hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:40]
    with ExitStack() as stack:
        try:
            above.mkdir(parents=True, exist_ok=True, mode=0o700)
            stack.enter_context(alone(place))
        except OSError as fault:
            return _not_kept(prepare(loaded, tokenizer, track=track), above, fault.strerror or str(fault))
        rows = _found(place)
        if rows is not None:
            rows.notices.append("these rows were prepared before, and read as they were kept (`fttool cache`)")
            return rows
        rows = prepare(loaded, tokenizer, track=track)
        try:
            _keep_now(rows, place, made_of)
        except (OSError, NotKeptError) as fault:
            return _not_kept(rows, above, gist(fault))
        return rows


def _not_kept(rows: Rows, above: Path, why: str) -> Rows:
    rows.notices.append(f"prepared rows are not kept in {above}: {why}")
    return rows


def kept_rows_folder(loaded: Loaded | None = None) -> Path | None:
    """Where rows are kept: as the recipe says, else in the user's cache; None where they are not."""
    said = loaded.recipe.data.cache if loaded is not None else True
    if isinstance(said, str) and loaded is not None:
        return loaded.folder / Path(said).expanduser()
    usual = user_folder("XDG_CACHE_HOME", ".cache")
    return usual / "rows" if said and usual is not None else None


@dataclass(frozen=True, slots=True)
class KeptRows:
    """Rows that are kept."""

    path: Path
    """Their folder."""
    bytes: int
    """All that lies in it."""
    used: float
    """When they were last used, in seconds since 1970."""
    sources: Sequence[str]
    """What they were read from."""


def kept_rows(above: Path) -> list[KeptRows]:
    """All rows that are kept in a folder, those that were used last first."""
    found: list[KeptRows] = []
    for path in above.iterdir() if above.is_dir() else ():
        with suppress(OSError, ValueError, KeyError):  # of another process, which is about to remove it
            sources = read_manifest(path)["rows"]["sources"]
            said = [str(source["source"]) for source in sources]
            found.append(KeptRows(path, bytes_in(path), path.stat().st_mtime, said))
    return sorted(found, key=lambda entry: -entry.used)


def remove_kept_rows(entry: KeptRows) -> None:
    """Remove rows that are kept; a run that has them in memory keeps them until it ends."""
    shutil.rmtree(entry.path, ignore_errors=True)
    with suppress(OSError):
        lock_beside(entry.path).unlink()


def _found(place: Path) -> Rows | None:
    rows = kept(place)
    if rows is None:
        shutil.rmtree(place, ignore_errors=True)  # damaged, or of another version
        return None
    with suppress(OSError):  # of another user, who lets us read them
        os.utime(place)
    return rows


def _keep_now(rows: Rows, place: Path, made_of: Mapping[str, Any]) -> None:
    """Keep rows: written aside, and renamed once they are complete; not those whose files have changed meanwhile."""
    if [source.get("sha256") for source in rows.sources] != [each.get("sha256") for each in made_of["sources"]]:
        return
    aside = Path(tempfile.mkdtemp(prefix=".partial-", dir=place.parent))
    try:
        keep(rows, aside)
        aside.rename(place)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    _bound(place.parent)


def _bound(above: Path) -> None:
    """Remove what was used longest ago, until all that is kept is within its bound."""
    total = 0
    for entry in kept_rows(above):
        total += entry.bytes
        if total > AT_MOST:
            remove_kept_rows(entry)


# -- what rows are made of -------------------------------------------------------------------------------------------


def _worth_it(loaded: Loaded) -> bool:
    """Whether preparing takes longer than looking up: many bytes, rows from elsewhere, or a filter that takes long."""
    recipe = loaded.recipe
    tables = [table for _, table in recipe.data.datasets()]
    if any(not table.paths for table in tables) or any(strategy.slow for strategy in recipe.filters):
        return True
    try:
        paths = [path for table in tables for path in named_paths(loaded.folder, table.paths)]
        return sum(bytes_in(path) if path.is_dir() else path.stat().st_size for path in paths) >= FROM_BYTES
    except (OSError, DataError):  # whoever reads them says what is wrong
        return False


def _made_of(loaded: Loaded, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """All that the rows hang on, for a hash."""
    recipe = loaded.recipe
    tables = list(recipe.data.datasets())
    strategies: list[Strategy] = [recipe.task, *recipe.filters, recipe.masking]
    strategies += [each for _, table in tables for each in (table.reader, table.format)]
    files = [fingerprint(path) for each in strategies for path in _named(each, loaded.folder) if _is_one_thing(path)]
    if any(strategy.slow for strategy in recipe.filters):  # such a filter may ask the model
        strategies.append(recipe.model.source)
        files += [fingerprint(path) for path in _named(recipe.model.source, loaded.folder)]
    return {
        "sources": [_source(loaded, table, key) for key, table in tables],
        "tables": [[key, table.model_dump(mode="json", exclude={"name"}), table.dataset] for key, table in tables],
        "folder": str(loaded.folder.absolute()),
        "eval_share": recipe.data.eval_share,
        "seed": recipe.run.seed,
        "strategies": [each.model_dump(mode="json") for each in strategies],
        "files": files,
        "batching": recipe.batching.model_dump(mode="json", include=set(Batching.model_fields)),
        "general": [
            recipe.mixing.id(),
            recipe.mixing.uses_general,
            [each.uses_general for each in recipe.regularizers],
        ],
        "tokenizer": _tokenizer(tokenizer),
        "code": {name: about["sha256"] for name, about in code_of(_entries(loaded, strategies)).items()},
        "libraries": {name: version(name) for name in LIBRARIES} | {"python": sys.version},
    }


def _source(loaded: Loaded, table: RowsTable, key: tuple[str | int, ...]) -> Mapping[str, Any]:
    if not table.paths:
        return hub.published(table, hub.load(table, key))
    return fingerprint_of(named_paths(loaded.folder, table.paths))


def _named(strategy: Strategy, folder: Path) -> list[Path]:
    """What a strategy's options name on this machine, whatever else they may mean; an empty text is not a path."""
    names = [name for name in _texts(strategy.model_dump(mode="json")) if name.strip()]
    return [path for name in names if (path := _existing(folder, name)) is not None]


def _is_one_thing(path: Path) -> bool:
    """True for a file and for a model's folder; any other folder only happens to be called as the option says."""
    return path.is_file() or (path / "config.json").is_file()


def _texts(value: object) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    for _, child in children(value):
        yield from _texts(child)


def _existing(folder: Path, name: str) -> Path | None:
    try:
        path = folder / Path(name).expanduser()
        return path if path.exists() else None
    except (OSError, ValueError, RuntimeError):  # too long for a path, with a NUL character, of a user who is not here
        return None


def _entries(loaded: Loaded, strategies: Iterable[Strategy]) -> list[Any]:
    """The plugins whose code prepares the rows, fttool's own with them."""
    prefixes = {each.id().partition(".")[0] for each in strategies if "." in each.id()}
    return [entry for entry in loaded.plugins.entries if entry.ours or entry.name in prefixes]


def _tokenizer(tokenizer: PreTrainedTokenizerBase) -> str:
    """A hash of a tokenizer: its vocabulary and rules, special tokens and chat template."""
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    rules = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    said = [type(tokenizer).__name__, tokenizer.special_tokens_map, tokenizer.chat_template, tokenizer.init_kwargs]
    return hashlib.sha256(json.dumps([rules, said], default=str, sort_keys=True).encode()).hexdigest()
