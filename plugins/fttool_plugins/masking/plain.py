"""Rows of plain text: a prompt that is read and a completion that is learned, with the EOS that ends it.

Inference tokenizes the prompt alone, so the row must begin with just those tokens. Tokenizing prompt +
completion in one may merge characters over the boundary ("a " + "b" → "a", " b"), and then the model would
be trained on a prompt that it never sees. So: where the tokens of both together begin with those of the
prompt, they are taken; where they do not, the completion is tokenized apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fttool.api import Encoded
from fttool_plugins.masking.control import Control
from fttool_plugins.masking.turns import IGNORED

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from fttool_plugins.masking.of_turns import ControlTokens


class PlainText:
    """Makes tokens and labels of plain text."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, control: ControlTokens = "refuse") -> None:
        self._tokenizer = tokenizer
        self._control = Control(tokenizer, control)
        bos = tokenizer.bos_token_id
        by_default = list(tokenizer("", verbose=False)["input_ids"])
        self._bos = [bos] if isinstance(bos, int) and by_default[:1] == [bos] else []
        """Only where the tokenizer itself puts it in front."""

    def encode(self, prompt: str, completion: str, *, learn_prompt: bool = False) -> Encoded:
        """BOS (where the tokenizer adds one) + prompt + completion + EOS, each only where the text lacks it.

        Labels on the completion and EOS; with `learn_prompt` on all. Never on the first token: nothing
        predicts it. Raises `ValueError` for an empty completion, a tokenizer without EOS, where only EOS would
        be learned, and for control tokens in the text where they are refused.
        """
        eos = self._tokenizer.eos_token_id
        if not completion.strip():
            raise ValueError("the completion is empty: the model would only learn to stop")
        if not isinstance(eos, int):
            raise ValueError("the tokenizer has no EOS token, so the model would never learn to stop")
        inside = self._inside(prompt, completion)
        controlled = self._control.check(zip(("the prompt", "the completion"), inside, strict=True))
        literal = controlled and self._control.as_text
        head, tail = self._literal(prompt, completion, *inside) if literal else self._split(prompt, completion)
        if self._bos and (head or tail)[:1] != self._bos:
            head = self._bos + head
        if tail[-1:] != [eos]:
            tail = [*tail, eos]
        ids = head + tail
        labels = ids.copy() if learn_prompt else [IGNORED] * len(head) + tail
        labels[0] = IGNORED
        if all(label in (IGNORED, eos) for label in labels):
            raise ValueError(f"the text {completion!r} is too short: only the EOS after it would be learned")
        return Encoded(ids, labels, remarks=self._control.remarks(controlled), literal=literal)

    def _inside(self, prompt: str, completion: str) -> tuple[str, str]:
        """Both texts without what a person may write around them: BOS in front, EOS at the end."""
        bos, eos = (str(token or "") for token in (self._tokenizer.bos_token, self._tokenizer.eos_token))
        if prompt:
            return prompt.removeprefix(bos), completion.removesuffix(eos)
        return prompt, completion.removeprefix(bos).removesuffix(eos)

    def _literal(self, prompt: str, completion: str, *inside: str) -> tuple[list[int], list[int]]:
        """The tokens of both with no control token in them but the BOS that stands in front."""
        head, tail = (self._control.ids(text) for text in inside)
        bos, begin = self._tokenizer.bos_token_id, str(self._tokenizer.bos_token or "")
        if isinstance(bos, int) and (prompt or completion).startswith(begin):
            head = [bos, *head]
        return head, tail

    def _split(self, prompt: str, completion: str) -> tuple[list[int], list[int]]:
        """The tokens of the prompt as inference makes them, and those of the completion."""
        head, both = self._ids(prompt), self._ids(prompt + completion)
        if both[: len(head)] == head:
            return head, both[len(head) :]
        # SentencePiece writes a space before a text that stands alone, but not after a line break.
        line_break, behind = self._ids("\n"), self._ids("\n" + completion)
        if behind[: len(line_break)] == line_break:
            return head, behind[len(line_break) :]
        return head, self._ids(completion)

    def _ids(self, text: str) -> list[int]:
        encoding = self._tokenizer(text, add_special_tokens=False, truncation=False, verbose=False)
        return list(encoding["input_ids"])
