"""Where the assistant's turns are in one full render of a conversation, for any chat template.

Rendering prefixes turn by turn and taking differences breaks on every template that writes earlier turns otherwise
than the last (Qwen3 drops their thoughts, gpt-oss ends them with another token). So the conversation is rendered once
as training and inference see it, once more marked (`trace.py`), and tokenized once. The labels of a turn run

- from the end of the generation prompt (`<|im_start|>assistant\n`): the first character that inference asks for
- up to and including the last special token that the turn writes (`<|im_end|>`), where inference stops, and EOS, where
  the template writes that behind the last turn.

White space behind that token is not learned. A thought is: a generation prompt that opens one (`<think>\n`) counts up
to there, so that labels do not depend on whether thinking is asked for. Where the template takes no notice of
`add_generation_prompt`, inference asks for all that the turn writes, and so do the labels.

What people type is text, even where it reads like the template's own marks: turns are told apart by which message
wrote them, not by what they look like. A typed `<|im_end|>` becomes the special token, as `apply_chat_template` has
it; in a user's turn it is not learned, in an answer it is, like the rest of the answer.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fttool.api import Encoded, Message, ModelError, chat_text
from fttool_plugins.masking.answers import THOUGHT, check_not_empty, check_not_left_out, last_words
from fttool_plugins.masking.tokens import Tokens, special_ids, tokenize
from fttool_plugins.masking.trace import Span, Trace, Tracer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
"""The label of a token that is not learned; torch's `cross_entropy` skips it."""


@dataclass(frozen=True, slots=True)
class _Talk:
    """A conversation, rendered."""

    messages: Sequence[Message]
    template: Mapping[str, Any]
    """More variables for the chat template."""
    trace: Trace
    tokens: Tokens


class Conversations:
    """Makes tokens and labels of conversations; remembers how the chat template asks for an answer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._tracer = Tracer(tokenizer)
        self._special = special_ids(tokenizer)
        self._prompts: dict[str, tuple[str, ...]] = {}

    def encode(
        self,
        messages: Sequence[Message],
        template: Mapping[str, Any],
        *,
        first: int = 0,
        unlearned: Collection[int] = (),
    ) -> Encoded:
        """Tokens of the whole conversation, labels on the assistant's turns from message `first` on that are learned.

        `template` holds more variables for the chat template (`tools`, `enable_thinking` …). Raises `ValueError`
        where there is no such turn or it is empty, and where the template refuses the conversation, leaves out a
        turn's text or never ends a turn.
        """
        roles = [message.get("role") for message in messages]
        learned = [index for index in range(first, len(messages)) if roles[index] == "assistant"]
        if not learned:
            where = f" from message {first + 1} on" if first else ""
            raise ValueError(f"no assistant turn{where}: there is nothing to learn")
        learned = [index for index in learned if index not in unlearned]
        for index in learned:
            check_not_empty(messages[index], index + 1)
        text = render(self._tokenizer, messages, template)
        trace = self._trace(messages, template)
        if trace is None or trace.text != text:
            raise ValueError(
                "the turns cannot be told apart: the chat template writes another text when its loop over the "
                "messages is marked; masking 'all' works without"
            )
        talk = _Talk(messages, template, trace, tokenize(self._tokenizer, text, self._special))
        ids = talk.tokens.ids
        labels = [IGNORED] * len(ids)
        for index in learned:
            for token in self._turn(index, talk):
                labels[token] = ids[token]
        labels[0] = IGNORED  # nothing predicts the first token
        return Encoded(ids, labels, turns=tuple(learned))

    def _trace(self, messages: Sequence[Message], template: Mapping[str, Any], **more: Any) -> Trace | None:
        """The marked render; None where the template refuses."""
        try:
            return self._tracer.trace(messages, template, **more)
        except ModelError:  # it does not end
            raise
        except Exception:  # a template is foreign code: it may raise anything
            return None

    def _turn(self, index: int, talk: _Talk) -> list[int]:
        """The tokens of one turn that are learned."""
        tokens, text = talk.tokens, talk.trace.text
        own = _own_span(index, talk.trace)
        start, prompts = self._header_end(index, own, talk)
        end = self._end(index, own, talk, prompts)
        written = text[start:end]
        check_not_left_out(talk.messages[index], index + 1, written)
        foreign = [s for s in talk.trace.spans if s.message != index and start <= s.start < s.end <= end]
        turn = [
            token
            for token in tokens.within(start, end)
            if not any(tokens.lies_in(token, span.start, span.end) for span in foreign)
        ]
        while turn and tokens.is_blank(turn[-1]):
            turn.pop()
        if tokens.are_frame(turn):
            raise ValueError(f"of message {index + 1} the chat template writes no text, only {written!r}")
        # A tool's answer may be written into the turn; where it closes it, nothing of the turn's own does.
        interrupted = any(not text[span.end : end].strip() for span in foreign)
        if not interrupted and not _is_closed(talk.messages[index], written, turn, tokens):
            raise ValueError(
                f"message {index + 1} never ends: the chat template writes {written[-40:]!r} and no special token of "
                "this tokenizer behind it, so the model would never learn to stop; choose a [model] chat_template "
                "that ends an assistant's turn with a special token"
            )
        return turn

    def _header_end(self, index: int, own: Span, talk: _Talk) -> tuple[int, Sequence[str]]:
        """The character behind the generation prompt with which a turn begins, and all it could have begun with."""
        previous = talk.messages[index - 1] if index else {}
        options = {key: value for key, value in talk.template.items() if key not in ("tools", "documents")}
        key = json.dumps([options, previous.get("role"), sorted(previous)], sort_keys=True, default=repr)
        prompts = self._prompts.get(key, ())
        for remembered in (True, False):
            if not remembered:  # new, or it depends on more than the key
                prompts = self._prompts[key] = tuple(self._generation_prompts(index, talk))
            for prompt in prompts:
                end = _behind(prompt, own, talk.tokens)
                if end is not None:
                    return end, prompts
        raise ValueError(
            f"message {index + 1} begins with {talk.trace.text[own.start : own.end][:40]!r}, but the chat template "
            f"asks for an answer with {''.join(prompts[:1])!r}: what inference asks for would never be learned"
        )

    def _generation_prompts(self, index: int, talk: _Talk) -> Iterator[str]:
        """How the template may ask for message `index`, up to a thought; the surest first.

        Read off behind the messages before it and, since some templates refuse those (none at all, say) or ask for
        nothing there (after a tool's answer), behind the whole conversation. The empty prompt comes last.
        """
        unasked_too = False
        for head in (talk.messages[:index], talk.messages):
            asked = self._trace(head, talk.template, add_generation_prompt=True)
            unasked = self._trace(head, talk.template)
            if asked is None or unasked is None:
                continue
            added = asked.text.removeprefix(unasked.text)
            behind = asked.text[_end_of_last(len(head), asked) :]
            for written in (added, behind):
                prompt = THOUGHT.split(written)[0] if written != asked.text else ""
                if prompt.strip():
                    yield prompt
            unasked_too |= not THOUGHT.split(added)[0]
        if unasked_too:
            yield ""

    def _end(self, index: int, own: Span, talk: _Talk, prompts: Sequence[str]) -> int:
        """The character behind what a turn writes, and behind what the template writes to close it.

        What stands behind the whole conversation closes the last turn if it is EOS. Anything else but a generation
        prompt closes a turn that has no end of its own and is followed by just that: in some templates each round
        first closes the one before.
        """
        tokens, text = talk.tokens, talk.trace.text
        last = _end_of_last(len(talk.messages), talk.trace)
        closing = text[last:].rstrip()
        if not text.startswith(closing, own.end) or not tokens.are_frame(tokens.within(last, last + len(closing))):
            return own.end
        ink = [token for token in tokens.within(own.start, own.end) if not tokens.is_blank(token)]
        closed = _is_closed(talk.messages[index], text[own.start : own.end], ink, tokens)
        asking = closing.strip() in map(str.strip, prompts)
        if (closed or asking) and closing.strip() != self._tokenizer.eos_token:
            return own.end
        return own.end + len(closing)


def render(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], template: Mapping[str, Any]) -> str:
    """The conversation as text, with `template` (`tools`, `enable_thinking` …) for the chat template.

    Raises `ValueError` where there is no chat template or it refuses the conversation.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise ValueError(
            "the tokenizer has no chat template, so it cannot write a conversation; "
            'choose one: [model] chat_template = "chatml", or a file'
        )
    own = set(inspect.signature(tokenizer.apply_chat_template).parameters) - {"tools", "documents"}
    if taken := sorted(own & template.keys()):
        raise ValueError(f"'{taken[0]}' is no variable of the chat template; it decides how it is used")
    try:
        return chat_text(tokenizer, messages, **template)
    except ModelError:  # it does not end, or writes without measure
        raise
    except Exception as error:  # a template is foreign code: it may raise anything
        raise ValueError(f"the chat template refuses this conversation: {error}") from error


def _own_span(index: int, trace: Trace) -> Span:
    """The part of the render that one message wrote."""
    spans = [s for s in trace.spans if s.message == index and trace.text[s.start : s.end].strip()]
    outer = [s for s in spans if not any(t is not s and t.start <= s.start and s.end <= t.end for t in spans)]
    if len(outer) != 1:
        what = "writes it more than once" if outer else "leaves it out, or writes it outside its loop over messages"
        raise ValueError(f"message {index + 1} has no place of its own: the chat template {what}")
    return outer[0]


def _behind(prompt: str, own: Span, tokens: Tokens) -> int | None:
    """The character behind a generation prompt that a turn begins with, but for white space and special tokens."""
    text = tokens.text
    bare = prompt.strip()
    at = text.find(bare, own.start, own.end)
    if at < 0 or not tokens.are_frame(tokens.within(own.start, at)):
        return None
    end = at + len(bare)
    blank = prompt[len(prompt.rstrip()) :]
    while not text.startswith(blank, end):
        blank = blank[:-1]
    return end + len(blank)


def _is_closed(message: Message, written: str, turn: Sequence[int], tokens: Tokens) -> bool:
    """True where a turn ends in a special token, and not because the message itself does."""
    words = last_words(message)
    return tokens.is_special(turn[-1]) and not (words and written.rstrip().endswith(words))


def _end_of_last(messages: int, trace: Trace) -> int:
    """The character behind what the last of so many messages wrote; the end of the text where it wrote nothing."""
    return max((span.end for span in trace.spans if span.message == messages - 1), default=len(trace.text))
