"""Prepared rows on disk: numbers in NumPy's files, which every process reads as it needs them, and all else in JSON.

What is read back is what was written, or nothing: sizes and checksums are compared, and rows that JSON would change
are not written at all.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from fttool.contracts.rows import Example
from fttool.disk import flush
from fttool.rows.gone import Flagged, Gone
from fttool.rows.rows import Rows
from fttool.rows.spooled import Column, Spool
from fttool.rows.tokens import NUMBERS, JoinedRows, TokenRows

FORMAT = 3
"""Version of what lies in a folder."""
MANIFEST = "rows.json"


class NotKeptError(ValueError):
    """Raised for rows that would not come back as they are."""


def keep(rows: Rows, folder: Path) -> None:
    """Write rows into a folder that is there and empty.

    Raises:
        NotKeptError: where something in them is not JSON's, such as a date.
        OSError: where the disk takes no more.
    """
    said = {field.name: getattr(rows, field.name) for field in fields(Rows) if field.name not in (*TOKENS, *SPOOLS)}
    text = json.dumps(_plain(said), ensure_ascii=False, allow_nan=False, default=_refuse)
    if _said(json.loads(text)) != said:
        raise NotKeptError(REFUSED)
    for name, (dump, load) in SPOOLS.items():
        _checked(getattr(rows, name), dump, load).save(folder / name)
    parts: list[dict[str, Any]] = []
    for part, name, tokens in _parts(rows):
        _save(tokens, folder / str(len(parts)))
        parts.append({"part": part, "name": name, "remarks": dict(tokens.remarks)})
    files = {str(path.relative_to(folder)): _checksum(path) for path in folder.rglob("*.npy")}
    manifest = {"format": FORMAT, "parts": parts, "files": files, "rows": json.loads(text)}
    data = json.dumps(manifest, ensure_ascii=False).encode()
    (folder / MANIFEST).write_bytes(b"%08x\n" % zlib.crc32(data) + data)
    flush(folder / MANIFEST)


def kept(folder: Path) -> Rows | None:
    """The rows that were written into a folder; None where there are none, or they are damaged."""
    try:
        manifest = read_manifest(folder)
        if manifest["format"] != FORMAT:
            return None
        if any(_checksum(folder / name) != expected for name, expected in manifest["files"].items()):
            return None
        rows = Rows(**_said(manifest["rows"]))
        for name, (dump, load) in SPOOLS.items():
            setattr(rows, name, Spool(dump=dump, load=load))
            getattr(rows, name).open_saved(folder / name)
        for number, about in enumerate(manifest["parts"]):
            tokens = _saved(folder / str(number))
            tokens.remarks.update(about["remarks"])
            if about["name"] is None:
                setattr(rows, about["part"], tokens)
            else:
                getattr(rows, about["part"])[about["name"]] = tokens
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # whatever a torn or strange file holds
        return None
    replayed = list(rows.general.values()) if len(rows.learned_sizes) > len(rows.train_sizes) else []
    rows.learned = JoinedRows([rows.train, *replayed])
    return rows


def read_manifest(folder: Path) -> dict[str, Any]:
    """What stands in a folder beside the tokens: `rows`, the fields of `Rows`, and `files`.

    Raises:
        OSError, ValueError: where there is nothing, or it is damaged.
    """
    checksum, _, manifest = (folder / MANIFEST).read_bytes().partition(b"\n")
    if int(checksum, 16) != zlib.crc32(manifest):
        raise ValueError("the manifest is damaged")
    return json.loads(manifest)


def _parts(rows: Rows) -> Iterator[tuple[str, str | None, TokenRows]]:
    """Every `TokenRows` with its place: the field, and its name in it where the field holds several."""
    yield from (("train", None, rows.train), ("eval", None, rows.eval))
    yield from (("general", name, tokens) for name, tokens in rows.general.items())
    yield from (("retention", name, tokens) for name, tokens in rows.retention.items())


def _save(rows: TokenRows, folder: Path) -> None:
    folder.mkdir()
    for name in NUMBERS:
        getattr(rows, name).save(folder / f"{name}.npy")
    rows.origins.save(folder / "origins")
    rows.classes.save(folder / "classes")


def _saved(folder: Path) -> TokenRows:
    rows = TokenRows()
    for name, kind in NUMBERS.items():
        setattr(rows, name, Column.saved(folder / f"{name}.npy", kind))
    rows.origins.open_saved(folder / "origins")
    rows.classes.open_saved(folder / "classes")
    return rows


# -- what is not tokens ----------------------------------------------------------------------------------------------


def _plain(said: Mapping[str, Any]) -> dict[str, Any]:
    """The fields for JSON: examples as tables whose default values are left out."""
    return {name: list(map(_row, value)) if name == "sampled" else value for name, value in said.items()}


def _said(data: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `Rows` again, each of the kind that it has there."""
    kinds: dict[str, Callable[[Any], Any]] = {field.name: type(getattr(_EMPTY, field.name)) for field in fields(Rows)}
    kinds["sampled"] = lambda rows: list(map(_example, rows))
    return {name: kinds[name](value) for name, value in data.items()}


_NOTHING, _EMPTY = Example(origin=""), Rows()


def _row(example: Example) -> dict[str, Any]:
    """The fields in which an example differs from one without content."""
    return {
        name: sorted(value) if isinstance(value, frozenset) else value
        for name in Example.__dataclass_fields__
        if (value := getattr(example, name)) != getattr(_NOTHING, name)
    }


def _example(row: Mapping[str, Any]) -> Example:
    changed: dict[str, Any] = {
        "messages": tuple(row.get("messages", ())),
        "words": tuple(map(tuple, row.get("words", ()))),
        "unlearned": frozenset(row.get("unlearned", ())),
        "labels": tuple(row["labels"]) if row.get("labels") is not None else None,
    }
    return Example(**{**row, **changed})


def _json(value: object) -> bytes:
    return json.dumps(value, allow_nan=False, default=_refuse).encode()


def _refuse(value: object) -> Any:
    raise NotKeptError(f"rows hold {type(value).__name__}, which JSON has no form for")


REFUSED = "rows hold values that JSON has no form for"
TOKENS = ("train", "eval", "general", "retention", "learned")
SPOOLS: dict[str, tuple[Callable[[Any], bytes], Callable[[bytes], Any]]] = {
    "eval_examples": (lambda example: _json(_row(example)), lambda data: _example(json.loads(data))),
    "noticed": (lambda flagged: _json(asdict(flagged)), lambda data: Flagged(**json.loads(data))),
    "gone": (lambda gone: _json(asdict(gone)), lambda data: Gone(**json.loads(data))),
}
"""Fields of `Rows` that hold many objects, and how each of those becomes JSON and comes back."""


def _checked(items: Sequence[Any], dump: Callable[[Any], bytes], load: Callable[[bytes], Any]) -> Spool[Any]:
    """The same as JSON; raises `NotKeptError` where one would not come back as it is."""
    spool = Spool(dump=dump, load=load)
    for item in items:
        spool.append(item)
        if spool[-1] != item:
            raise NotKeptError(REFUSED)
    return spool


def _checksum(path: Path) -> list[int]:
    """The length of a file, and the CRC-32 of what it holds."""
    crc = 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            crc = zlib.crc32(chunk, crc)
        return [file.tell(), crc]
