"""A keyed hash that says of a checkpoint: this user wrote it, on this machine.

Sharding engines keep their state in pickles, and to read a pickle is to run what is in it. A hash without a key vouches
for nothing there, as whoever changes the files makes it anew. So each user has a key of their own, made when it is
first needed, in their folder of state (`$XDG_STATE_HOME/fttool/key`, by default under `~/.local/state`).
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from pathlib import Path

from fttool.disk import user_folder

BYTES = 32


def sign(text: str) -> str | None:
    """The keyed hash of `text`; None where this user has no key and cannot have one."""
    key = _key(make=True)
    return hmac.new(key, text.encode("utf-8"), hashlib.sha256).hexdigest() if key else None


def is_signed(text: str, signature: object) -> bool:
    """True where this user's key has made the signature."""
    key = _key(make=False)
    if key is None or not isinstance(signature, str):
        return False
    return hmac.compare_digest(hmac.new(key, text.encode("utf-8"), hashlib.sha256).hexdigest(), signature)


def key_file() -> Path | None:
    """Where the key is, or would be; None for a user without a home."""
    state = user_folder("XDG_STATE_HOME", ".local/state")
    return None if state is None else state / "key"


def _key(*, make: bool) -> bytes | None:
    file = key_file()
    if file is None:
        return None
    with suppress(OSError):
        if make and not file.exists():
            _make(file)
        if _is_private(file):
            key = file.read_bytes()
            return key if len(key) == BYTES else None
    return None


def _make(file: Path) -> None:
    """Complete or absent; of two processes that make one at once, the first has its way."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    aside = file.with_name(f".{secrets.token_hex(8)}.partial")
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
        opened.write(secrets.token_bytes(BYTES))
    try:
        os.link(aside, file)
    except FileExistsError:
        pass  # it is there, which is what was wanted
    finally:
        aside.unlink()


def _is_private(file: Path) -> bool:
    """False where others can read or write it: then it proves nothing."""
    if os.name == "nt":
        return file.is_file()
    status = file.lstat()
    return file.is_file() and not file.is_symlink() and status.st_uid == os.getuid() and not status.st_mode & 0o077
