"""Prepared rows on disk: tokens in Arrow files, which every process maps into its memory, and all else in JSON.

What is read back is what was written, or nothing: sizes and checksums are compared, and rows that JSON would change
are not written at all.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, cast

from fttool.contracts.rows import Example
from fttool.disk import flush
from fttool.rows.gone import Gone
from fttool.rows.rows import Rows
from fttool.rows.tokens import JoinedRows, TokenRows

FORMAT = 1
"""Version of what lies in a folder."""
MANIFEST = "rows.json"
FLAT = ("tokens", "learned", "ends", "token_types", "words")
"""Arrays of `TokenRows`."""


class NotKeptError(ValueError):
    """Raised for rows that would not come back as they are."""


def keep(rows: Rows, folder: Path) -> None:
    """Write rows into a folder that is there and empty.

    Raises:
        NotKeptError: where something in them is not JSON's, such as a date.
        OSError: where the disk takes no more.
    """
    said = {field.name: getattr(rows, field.name) for field in fields(Rows) if not _is_tokens(field.name)}
    text = json.dumps(_plain(said), ensure_ascii=False, allow_nan=False, default=_refuse)
    if _said(json.loads(text)) != said:
        raise NotKeptError("rows hold values that JSON has no form for")
    files: dict[str, Any] = {}
    for number, (part, name, tokens) in enumerate(_parts(rows)):
        file = f"{number}.arrow"
        _write(tokens, folder / file)
        checked = {"bytes": (folder / file).stat().st_size, "crc32": _checksum(folder / file)}
        files[file] = {"part": part, "name": name, "remarks": dict(tokens.remarks), **checked}
    manifest = json.dumps({"format": FORMAT, "files": files, "rows": json.loads(text)}, ensure_ascii=False).encode()
    (folder / MANIFEST).write_bytes(b"%08x\n" % zlib.crc32(manifest) + manifest)
    flush(folder / MANIFEST)


def kept(folder: Path) -> Rows | None:
    """The rows that were written into a folder; None where there are none, or they are damaged."""
    try:
        manifest = read_manifest(folder)
        if manifest["format"] != FORMAT:
            return None
        rows = Rows(**_said(manifest["rows"]))
        for file, about in manifest["files"].items():
            if (folder / file).stat().st_size != about["bytes"] or _checksum(folder / file) != about["crc32"]:
                return None
            tokens = _read(folder / file)
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


def _is_tokens(name: str) -> bool:
    return name in ("train", "eval", "general", "retention", "learned")


def _parts(rows: Rows) -> Iterator[tuple[str, str | None, TokenRows]]:
    """Every `TokenRows` with its place: the field, and its name in it where the field holds several."""
    yield from (("train", None, rows.train), ("eval", None, rows.eval))
    yield from (("general", name, tokens) for name, tokens in rows.general.items())
    yield from (("retention", name, tokens) for name, tokens in rows.retention.items())


# -- what is not tokens ----------------------------------------------------------------------------------------------


def _plain(said: Mapping[str, Any]) -> dict[str, Any]:
    """The fields for JSON: examples as tables whose default values are left out, dropped rows as tables."""
    tables: dict[str, Callable[[Any], dict[str, Any]]] = {**dict.fromkeys(_OF_EXAMPLES, _row), "gone": asdict}
    return {name: list(map(tables[name], value)) if name in tables else value for name, value in said.items()}


def _row(example: Example) -> dict[str, Any]:
    """The fields in which an example differs from one without content."""
    return {
        name: sorted(value) if isinstance(value, frozenset) else value
        for name in Example.__dataclass_fields__
        if (value := getattr(example, name)) != getattr(_NOTHING, name)
    }


def _said(data: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `Rows` again, each of the kind that it has there."""
    kinds = {field.name: type(getattr(_EMPTY, field.name)) for field in fields(Rows)}
    makers: dict[str, Callable[[Any], Any]] = {**dict.fromkeys(_OF_EXAMPLES, _example), "gone": lambda row: Gone(**row)}
    return {
        name: list(map(makers[name], value)) if name in makers else kinds[name](value) for name, value in data.items()
    }


_NOTHING, _EMPTY = Example(origin=""), Rows()
_OF_EXAMPLES = ("eval_examples", "sampled")


def _example(row: Mapping[str, Any]) -> Example:
    changed: dict[str, Any] = {
        "messages": tuple(row.get("messages", ())),
        "words": tuple(map(tuple, row.get("words", ()))),
        "unlearned": frozenset(row.get("unlearned", ())),
        "labels": tuple(row["labels"]) if row.get("labels") is not None else None,
    }
    return Example(**{**row, **changed})


def _refuse(value: object) -> Any:
    if isinstance(value, Mapping):  # a row that notes what is read of it
        return dict(cast("Mapping[str, Any]", value))
    raise NotKeptError(f"rows hold {type(value).__name__}, which JSON has no form for")


# -- tokens ----------------------------------------------------------------------------------------------------------


def _write(tokens: TokenRows, path: Path) -> None:
    import numpy as np
    import pyarrow as pa

    def row(values: Any) -> Any:
        """One list that holds everything, as the only row of its column."""
        flat = pa.array(np.asarray(values))
        return pa.LargeListArray.from_arrays(pa.array([0, len(flat)], pa.int64()), flat)

    columns = {name: row(getattr(tokens, name)) for name in FLAT}
    classes = [None if names is None else list(names) for names in tokens.classes]
    columns["origins"] = pa.array([tokens.origins], pa.large_list(pa.large_string()))
    columns["classes"] = pa.array([classes], pa.large_list(pa.large_list(pa.large_string())))
    table = pa.table(columns)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    flush(path)


def _read(path: Path) -> TokenRows:
    import pyarrow as pa

    tokens = TokenRows()
    with pa.memory_map(str(path)) as file:
        table = pa.ipc.open_file(file).read_all()
    for name in FLAT:
        setattr(tokens, name, table.column(name).chunk(0).values.to_numpy(zero_copy_only=True))
    tokens.origins = table.column("origins").chunk(0).values.to_pylist()
    same: dict[tuple[str, ...], tuple[str, ...]] = {}
    for names in table.column("classes").chunk(0).values.to_pylist():
        tokens.classes.append(None if names is None else same.setdefault(tuple(names), tuple(names)))
    return tokens


def _checksum(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            crc = zlib.crc32(chunk, crc)
    return crc
