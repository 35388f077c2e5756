"""The chat template of a run: the tokenizer's own, `chatml`, or a file; and the tokens at which its turns end."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fttool.contracts.rows import Encoded
from fttool.errors import ModelError, Problem
from fttool.textfile import convert_hint, foreign_encoding, obstacle

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MAX_TEMPLATE_BYTES = 2**20
"""The longest templates in use have a few tens of thousands."""

STOPS_FROM = 1_000
"""Rows of which the ends of turns are read."""

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""The ChatML format: every turn is `<|im_start|>role`, a line break, the content, `<|im_end|>`, a line break."""


def apply_template(tokenizer: PreTrainedTokenizerBase, chosen: str | None, folder: Path) -> None:
    """Give the tokenizer the recipe's chat template; raises `ModelError` for a missing or broken file.

    With `chatml`, a vocabulary without `<|im_start|>` and `<|im_end|>` is refused: as plain text they would be split
    into pieces, and the end of a turn would be no token of its own.
    """
    if chosen is None:
        return
    if chosen == "chatml":
        vocabulary = tokenizer.get_vocab()
        missing = [token for token in ("<|im_start|>", "<|im_end|>") if token not in vocabulary]
        if missing:
            message = f'chat_template = "chatml" needs the tokens {" and ".join(missing)}, which the vocabulary lacks'
            hint = "write a Jinja file with the turn markers this vocabulary has, and name it"
            raise ModelError(Problem(message, hint=hint, key=("model", "chat_template")))
        tokenizer.chat_template = CHATML
        return
    tokenizer.chat_template = read_template(chosen, folder)


def read_template(chosen: str | None, folder: Path) -> str | None:
    """The text of the recipe's chat template; None where it names no file. Raises `ModelError` as above."""
    if chosen is None or chosen == "chatml":
        return None
    file = folder / Path(chosen).expanduser()
    problem = obstacle(file)
    if problem:
        message = f"the chat template '{file}': {problem.message}"
        raise ModelError(Problem(message, hint=f"{problem.hint}; or say 'chatml'", key=("model", "chat_template")))
    text = _text(file)
    _check_syntax(text, file)
    return text


def _text(file: Path) -> str:
    if file.stat().st_size > MAX_TEMPLATE_BYTES:
        message = f"over {MAX_TEMPLATE_BYTES // 2**20} MiB, too large for a chat template"
        raise ModelError(message, where=str(file), hint="name a Jinja file, or say 'chatml'")
    raw = file.read_bytes()
    encoding = foreign_encoding(raw)
    try:
        if encoding is None:
            return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        encoding = "WINDOWS-1252"
    message = f"the chat template is not in UTF-8 (now: {encoding})"
    raise ModelError(message, where=str(file), hint=convert_hint(file, encoding))


def _check_syntax(text: str, file: Path) -> None:
    from jinja2 import TemplateSyntaxError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    try:
        ImmutableSandboxedEnvironment(extensions=["jinja2.ext.loopcontrols"]).parse(
            re.sub(r"{%[-+]?\s*(end)?generation\s*[-+]?%}", "", text)
        )
    except RecursionError:
        raise ModelError("the chat template is nested too deeply", where=str(file), hint="fix it") from None
    except TemplateSyntaxError as wrong:
        raise ModelError(
            f"the chat template is not valid Jinja: {wrong.message}", where=f"{file}:{wrong.lineno}", hint="fix it"
        ) from None


def stop_ids(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Encoded]) -> set[int]:
    """The special tokens that end what is learned, and at which generation must stop.

    Not those that also stand inside a learned turn, in front of more text: generation would stop there half-way, after
    the first of two tool calls, say. Read off up to 1,000 rows, evenly spread.
    """
    added = tokenizer.added_tokens_decoder.items()
    special = {*tokenizer.all_special_ids, *(index for index, token in added if token.special)}
    ends: set[int] = set()
    inside: set[int] = set()
    for index in range(0, len(rows), max(1, len(rows) // STOPS_FROM)):
        open_: set[int] = set()
        """Special tokens of the turn so far that no text has followed yet."""
        before = -100
        for label in (*rows[index].labels, -100):
            if label == -100:
                ends |= {before} & special
                open_ = set()
            elif label in special:
                open_.add(label)
            elif open_ and str(tokenizer.decode([label])).strip():
                inside |= open_
                open_ = set()
            before = label
    return ends - inside


def stop_at(model: PreTrainedModel, stops: set[int]) -> None:
    """Let generation end at these tokens too."""
    config: Any = getattr(model, "generation_config", None)
    if stops and config is not None:
        known = config.eos_token_id
        listed = known if isinstance(known, list) else [] if known is None else [known]
        config.eos_token_id = sorted({*listed, *stops})
