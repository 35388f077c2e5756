"""zstd by what is installed: Python itself from 3.14 on, else the `zstandard` package."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

from fttool.errors import DataError

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
"""The first bytes of a file packed with zstd (RFC 8878, section 3.1.1)."""

_CHUNK = 1 << 12
"""Bytes unpacked in one go; they may become 32,768 times as many (4 bytes can stand for 128 KiB)."""


def open_zstd(file: BinaryIO, path: Path) -> io.RawIOBase:
    """The unpacked stream; reading raises `EOFError` where the file is cut off, `zlib.error` where damaged.

    Raises:
        DataError: where nothing that unpacks zstd is installed.
    """
    try:
        zstd = import_module("compression.zstd")
    except ImportError:
        try:
            zstandard = import_module("zstandard")
        except ImportError:
            hint = f"unpack it with zstd -d {path.name}, or pip install zstandard"
            raise DataError("nothing installed here reads .zst files", where=str(path), hint=hint) from None
        return _Unpacked(file, lambda: zstandard.ZstdDecompressor().decompressobj(), zstandard.ZstdError)
    return _Unpacked(file, zstd.ZstdDecompressor, zstd.ZstdError)


class _Unpacked(io.RawIOBase):
    """Frames of zstd, one after the other.

    Not `zstandard`'s own stream reader, which ends in silence where a file is cut off.
    """

    def __init__(self, file: BinaryIO, new_frame: Callable[[], Any], damaged: type[Exception]) -> None:
        self._file = file
        self._new_frame = new_frame
        self._damaged = damaged
        self._frame: Any = None
        self._packed = b""
        self._unpacked = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        while not self._unpacked:
            self._packed = self._packed or self._file.read(_CHUNK)
            if not self._packed:
                if self._frame and not self._frame.eof:
                    raise EOFError
                return 0
            if not self._frame or self._frame.eof:
                self._frame = self._new_frame()
            try:
                self._unpacked = self._frame.decompress(self._packed)
            except self._damaged as error:
                raise zlib.error(str(error)) from None
            self._packed = self._frame.unused_data if self._frame.eof else b""
        count = min(len(buffer), len(self._unpacked))
        buffer[:count] = self._unpacked[:count]
        self._unpacked = self._unpacked[count:]
        return count
