"""Recipes hold no secrets, in values, keys or comments: a recipe is copied into every run directory, as given."""

from __future__ import annotations

import re
from collections.abc import Iterable

from fttool.errors import Problem
from fttool.plain import children
from fttool.recipe.overrides import Key, RawRecipe

_KNOWN = (
    r"hf_[A-Za-z0-9]{20,}",  # Hugging Face
    r"sk-[A-Za-z0-9_-]{20,}",  # OpenAI, Anthropic
    r"gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}",
    r"glpat-[A-Za-z0-9_-]{20,}",  # GitLab
    r"xox[abeprs]-[A-Za-z0-9-]{10,}",  # Slack
    r"(?:AKIA|ASIA)[0-9A-Z]{16}",  # AWS
    r"AIza[A-Za-z0-9_-]{35}",  # Google
    r"eyJ[\w-]{10,200}\.eyJ[\w-]{10,2000}\.[\w-]{10,}",  # a JSON web token
)
"""What tokens of well-known services begin with."""
_VALUE = re.compile(
    "|".join(
        (
            rf"(?<!\w)(?:{'|'.join(_KNOWN)})(?!\w)",
            r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
            r"(?i:\bbearer\s+[\w.~+/-]{16,})",
            r"(?i:\b[a-z][a-z0-9+.-]{0,20}://[^\s/@:\"']{0,200}:[^\s/@\"']{1,200}@)",  # user:password@host
            r"(?i:\b[a-z][a-z0-9+.-]{0,20}://[\w-]{20,200}@)",  # token@host
            r"(?i:[?&](?:[\w-]*(?:token|signature|secret|password|api_?key)|sig)=[^\s&\"']{8,})",
        )
    )
)
_KEY = re.compile(r"(^|[_-])(token|password|passwd|secret|api[_-]?key)$", re.IGNORECASE)
_SET_IN_COMMENT = re.compile(
    r"(?:password|passwd|secret|api[_-]?key)\s{0,9}[=:]\s{0,9}[\"']?(?=[^\s\"'<>$]{0,200}\d)[^\s\"'<>$]{6,}"
    r"|token\s{0,9}[=:]\s{0,9}[\"']?(?=[\w.+/-]{0,200}\d)[\w.+/-]{16,}",
    re.IGNORECASE,
)
"""A setting that was commented out. `# pad_token = "<|pad|>"` is none, nor is a token that stands for one."""


# What repeats is bounded throughout: a line of megabytes, made for it, must not take minutes.


def hide_secrets(text: str) -> str:
    """`text` without what looks like a secret in it."""
    return _VALUE.sub("…", text)


def secrets(raw: RawRecipe) -> Iterable[Problem]:
    """A problem for each that the recipe or an override holds; none of them repeats it."""
    hint = "take it out and set it in the environment (HF_TOKEN, WANDB_API_KEY …)"
    lines: set[int] = set()
    for key, value in _walk(raw.data):
        if _VALUE.search(value) or _KEY.search(str(key[-1])):
            place = raw.where(key)
            lines.add(raw.document.place(key).line)
            yield Problem(f"'{'.'.join(map(str, key))}' looks like a secret", place, hint, key)
    for number, line in enumerate(raw.document.text.split("\n"), 1):
        if number in lines:
            continue
        match = _VALUE.search(line)
        if match is None and "#" in line:
            match = _SET_IN_COMMENT.search(line, line.index("#"))
        if match:
            where = f"{raw.path}:{number}:{match.start() + 1}"
            yield Problem("this line holds what looks like a secret", where, hint)


def _walk(data: object, key: Key = ()) -> Iterable[tuple[Key, str]]:
    if isinstance(data, str):
        yield key, data
    for name, value in children(data):
        yield from _walk(value, (*key, name))
