"""Files over the network: brought here through fsspec because a recipe names them, and read like any other file.

They are kept in the user's cache under what their server says of a version (a tag, a time, the size), so that the next
run, and the other processes of this one, ask only whether that is still so. Credentials are the environment's, as each
of fsspec's implementations takes them: none comes into a recipe or a run directory.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from time import time
from typing import Any

from fttool.disk import alone, size, user_folder, writing
from fttool.errors import DataError, FttoolError, Problem, did_you_mean, gist
from fttool.machine import OFFLINE, SET_HERE
from fttool.recipe.secrets import hide_secrets
from fttool.visible import show

VERSION = (
    *("etag", "mtime", "lastmodified", "last_modified", "last-modified", "modified", "updated", "created"),
    *("generation", "content-md5", "md5hash", "digest", "checksum"),
)
"""What servers say of a file that changes with it, in lower case."""
LARGE = 32 * 2**20
"""Bytes from which on it is said that a file is being fetched."""
DAY = 24 * 3600.0
"""Seconds after which an older version that nobody has used is removed once there is a newer one."""
ASKED_AGAIN = 60.0
"""Seconds for which a server's answer holds: what one dataset is read from, and its hash, are of one version."""
NOTE = "from.json"
"""Beside a file that was fetched: its address, and when."""
ELSEWHERE = "set XDG_CACHE_HOME to a folder on another disk"


_answers: dict[str, tuple[float, list[Path]]] = {}
"""By address: when this process has asked, and the files."""


def address_obstacle(address: str) -> Problem | None:
    """What keeps an address from being asked at all; the network is not."""
    try:
        _implementation(address)
    except DataError as broken:
        return broken.problems[0]
    return None


def fetched(address: str) -> list[Path]:
    """The files that an address names, as they are here: one, or those that fit a pattern, by name.

    Raises:
        DataError: where there is no such file, the network is forbidden, or what fetches it is not installed.
        DiskError: where there is no room for it.
    """
    when, paths = _answers.get(address, (0.0, []))
    if time() - when > ASKED_AGAIN or not all(path.is_file() for path in paths):
        paths = _asked(address)
        _answers[address] = (time(), paths)
    return paths


def _asked(address: str) -> list[Path]:
    system = _implementation(address)
    if any(os.environ.get(name, "").upper() in ("1", "TRUE", "YES", "ON") for name in OFFLINE if name not in SET_HERE):
        return _as_fetched_before(address)
    with _explained(address):
        if not _is_pattern(address):
            return [_brought(system, address)]
        found = sorted(_fitting(system, address))
        if not found:
            raise DataError(
                "no file fits this pattern", where=_shown(address), hint="does it begin in the right folder?"
            )
        names = [_brought(system, name) for name in found]
    _note(_home(address) / "pattern", address, files=found)
    return names


def address_of(path: Path) -> str:
    """The address that a fetched file came from; any other path as it is written."""
    note = path.parent / NOTE
    if path.parent.parent.parent.name != _FOLDER or not note.is_file():
        return str(path)
    return str(json.loads(note.read_text(encoding="utf-8"))["address"])


def under_its_address(path: Path, rows: Iterable[Any]) -> Iterator[Any]:
    """What a reader yields of a path, and raises: a fetched file's rows are at its address, `s3://…/rows.jsonl:3`."""
    address = address_of(path)
    if address == str(path):
        yield from rows
        return

    def told(place: str) -> str:
        return address + place.removeprefix(str(path)) if place.startswith(str(path)) else place

    try:
        for origin, row in rows:
            yield told(origin) if isinstance(origin, str) else origin, row
    except DataError as broken:
        raise DataError(
            Problem(one.message.replace(str(path), address), told(one.where), one.hint, one.key)
            for one in broken.problems
        ) from None


# -- what is kept ----------------------------------------------------------------------------------------------------

_FOLDER = "fetched"


@dataclass(frozen=True, slots=True)
class Fetched:
    """A version of a file that was fetched."""

    folder: Path
    """Where it is kept."""
    address: str
    """Where it came from."""
    bytes: int
    """Its size."""
    used: float
    """When it was last used, in seconds since 1970."""


def fetched_files() -> list[Fetched]:
    """All that is kept, those first that were used last."""
    above = user_folder("XDG_CACHE_HOME", ".cache")
    found: list[Fetched] = []
    for note in above.glob(f"{_FOLDER}/*/*/{NOTE}") if above else ():
        with suppress(OSError, ValueError, KeyError):  # another process is about to remove it
            address = str(json.loads(note.read_text(encoding="utf-8"))["address"])
            files = [file for file in note.parent.iterdir() if file != note]
            if files:
                found.append(Fetched(note.parent, address, files[0].stat().st_size, note.stat().st_mtime))
    return sorted(found, key=lambda one: -one.used)


def remove_fetched(one: Fetched) -> None:
    """Remove a version of a file; the next run that names it fetches it again."""
    shutil.rmtree(one.folder, ignore_errors=True)
    with suppress(OSError):
        one.folder.parent.rmdir()


def _as_fetched_before(address: str) -> list[Path]:
    """The newest version that is here, where the network is forbidden."""
    place = _home(address)
    pattern = place / "pattern" / NOTE
    if _is_pattern(address) and pattern.is_file():
        files: list[str] = json.loads(pattern.read_text(encoding="utf-8"))["files"]
        return [path for file in files for path in _as_fetched_before(file)]
    notes = sorted(place.glob(f"*/{NOTE}"), key=lambda note: note.stat().st_mtime)
    files_there = [file for note in notes[-1:] for file in note.parent.iterdir() if file != note]
    if not files_there:
        variables = " or ".join(name for name in OFFLINE if os.environ.get(name))
        hint = f"unset {variables}, or run `fttool prepare` where there is a network, with the same cache"
        raise DataError("it was not fetched before, and the network is forbidden", where=_shown(address), hint=hint)
    return files_there


# -- fetching --------------------------------------------------------------------------------------------------------


def _implementation(address: str) -> Any:
    """fsspec's file system for an address."""
    import fsspec
    from fsspec.registry import known_implementations

    protocol = address.partition("://")[0]
    where = _shown(address)
    known: Mapping[str, Mapping[str, str]] = known_implementations
    if protocol in ("file", "local") or "::" in address:
        raise DataError("this is not the address of one file over the network", where=where, hint="write its path")
    if protocol not in known and protocol not in fsspec.available_protocols():
        hint = did_you_mean(protocol, sorted(known)) or "fsspec has s3, gs, abfs, https, sftp and more"
        raise DataError(f"'{protocol}' is not a protocol that is known", where=where, hint=hint)
    try:
        kind: Any = fsspec.get_filesystem_class(protocol)
        return kind(skip_instance_cache=True, use_listings_cache=False, **_from_address(kind, address))
    except ImportError:
        package = {"fsspec": "aiohttp"}.get(top := known[protocol]["class"].partition(".")[0], top)
        message = f"{protocol}:// needs the package {package}, which is not installed"
        raise DataError(message, where=where, hint=f"pip install {package}") from None
    except FttoolError:
        raise
    except Exception as fault:  # an implementation that finds no credentials says so as it likes
        raise _unreachable(address, fault) from fault


def _from_address(kind: Any, address: str) -> dict[str, Any]:
    """What an implementation reads in an address itself: a host, a container."""
    return dict(kind._get_kwargs_from_urls(address))


def _fitting(system: Any, pattern: str) -> Iterator[str]:
    """The addresses of the files that fit a pattern; implementations list names without protocol, and some hosts."""
    path = str(system._strip_protocol(pattern)).lstrip("/")
    for name in system.glob(pattern):
        own = pattern.endswith(path)
        yield pattern.removesuffix(path) + str(name).lstrip("/") if own else str(system.unstrip_protocol(name))


def _brought(system: Any, address: str) -> Path:
    """The file's present version, here: as it was fetched before, or fetched now by one process while others wait."""
    place = _home(address)
    told: Mapping[str, Any] = system.info(address)
    if told.get("type") == "directory":
        hint = f"name its files with a pattern: {_shown(address).rstrip('/')}/*.jsonl"
        raise DataError("this is a folder", where=_shown(address), hint=hint)
    version = {key: str(value) for key, value in told.items() if key.lower() in VERSION and value is not None}
    stamp = _key(json.dumps([sorted(version.items()), told.get("size")])) if version else ""
    file = place / (stamp or "unversioned") / _name(address)
    with writing(file, needed=int(told.get("size") or 0), hint=ELSEWHERE):
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        with alone(place):
            if not (stamp and file.is_file()):
                _fetch(system, address, file, told, version)
            _note(file.parent, address)
            _remove_older(place, file.parent)
    return file


def _fetch(system: Any, address: str, file: Path, told: Mapping[str, Any], version: Mapping[str, str]) -> None:
    """Write the file aside, and rename it once it is complete and still the version that was asked about."""
    expected = told.get("size")
    if expected is None or expected >= LARGE:
        show(f"fetching {_shown(address)}{f' ({size(expected)})' if expected else ''}", error=True)
    aside = file.parent.with_name(f".{file.parent.name}.partial")
    try:
        aside.unlink(missing_ok=True)
        system.get_file(address, str(aside))
        again: Mapping[str, Any] = system.info(address) if version else told
        same = all(str(again.get(key)) == value for key, value in version.items())
        complete = expected is None or aside.stat().st_size == expected or "http" in address.partition(":")[0]
        if not (same and complete):
            hint = "wait until it is complete, and begin again"
            raise DataError("the file changed while it was fetched, or was cut off", where=_shown(address), hint=hint)
        file.parent.mkdir(exist_ok=True)
        if not (file.is_file() and _same(file, aside)):
            aside.replace(file)
    finally:
        aside.unlink(missing_ok=True)


def _same(one: Path, other: Path) -> bool:
    """Whether two files have the same bytes: an unversioned one that has not changed stays the file that it is."""
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as first, other.open("rb") as second:
        return hashlib.file_digest(first, "sha256").digest() == hashlib.file_digest(second, "sha256").digest()


def _remove_older(place: Path, newest: Path) -> None:
    for note in place.glob(f"*/{NOTE}"):
        with suppress(OSError):
            if note.parent not in (newest, place / "pattern") and time() - note.stat().st_mtime > DAY:
                shutil.rmtree(note.parent, ignore_errors=True)


def _note(folder: Path, address: str, **more: Any) -> None:
    """Say where a file comes from, and that it is used."""
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f".{NOTE}.{os.getpid()}"
    aside.write_text(json.dumps({"address": _shown(address), **more}), encoding="utf-8")
    aside.replace(folder / NOTE)


# -- addresses -------------------------------------------------------------------------------------------------------


def _home(address: str) -> Path:
    """Where the versions of a file are kept."""
    above = user_folder("XDG_CACHE_HOME", ".cache")
    if above is None:
        raise DataError("there is no home directory to keep it in", where=_shown(address), hint=ELSEWHERE)
    return above / _FOLDER / _key(address)


def _key(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:24]


def _name(address: str) -> str:
    """What the file is called; its suffix tells the reader."""
    path = address.partition("://")[2]
    if _is_http(address):
        path = re.split(r"[?#]", path, maxsplit=1)[0]
    return re.sub(r"[^\w.-]", "_", PurePosixPath(path).name).lstrip(".")[-120:] or "rows"


def _is_pattern(address: str) -> bool:
    """Over HTTP nothing is: `?` begins a query there, and servers list no folders."""
    return not _is_http(address) and any(sign in address for sign in "*?[")


def _is_http(address: str) -> bool:
    return address.partition("://")[0] in ("http", "https")


def _shown(address: str) -> str:
    return hide_secrets(address)


@contextmanager
def _explained(address: str) -> Generator[None]:
    """Around what asks an implementation: it may raise anything."""
    try:
        yield
    except FttoolError:
        raise
    except Exception as fault:
        raise _unreachable(address, fault) from fault


def _unreachable(address: str, fault: Exception) -> DataError:
    cause = fault.__cause__ or fault
    if isinstance(fault, FileNotFoundError) and cause is fault:
        return DataError("there is no such file", where=_shown(address), hint="check the address")
    hint = "is there a network? credentials are taken from the environment, as fsspec's implementation says"
    return DataError(f"it cannot be fetched: {hide_secrets(gist(cause))}", where=_shown(address), hint=hint)
