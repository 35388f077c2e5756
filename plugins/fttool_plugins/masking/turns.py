"""The tokens and labels of a conversation, for any chat template.

Rendering prefixes turn by turn and taking differences breaks on every template that writes earlier turns otherwise
than the last (Qwen3 drops their thoughts, gpt-oss ends them with another token). So the conversation is rendered once
as training and inference see it, and once so that each character has an owner (`writing.py`): a field of a message, or
the template; rows that differ in what is said and in nothing else share the latter (`patterns.py`). The labels of a
turn run

- from the end of the prompt of inference (`<|im_start|>assistant\n`, see `prompts.py`)
- over what the message's own content, thoughts and calls own (`spans.py`) and what the template writes among them
- up to and including the special token at which generation stops there (`<|im_end|>`, see `ends.py`), and EOS, where
  the template writes that after the last turn.

White space after that token is not learned. A thought is: a generation prompt that opens one (`<think>\n`) counts up
to there, so that labels do not depend on whether thinking is asked for.

What people type is text, even where it reads like the template's own marks: turns are told apart by which message
wrote them, not by what they look like. A typed `<|im_end|>` would become the special token, as `apply_chat_template`
has it: such a row is refused, or encoded as an option says (`control.py`).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from fttool.api import ChatTemplateError, Encoded, Message, ModelError, chat_text
from fttool_plugins.masking.additions import Additions
from fttool_plugins.masking.answers import check_not_empty, check_not_left_out
from fttool_plugins.masking.control import Control
from fttool_plugins.masking.ends import Ends
from fttool_plugins.masking.patterns import Filled, Patterns, Turn
from fttool_plugins.masking.prompts import Prompts
from fttool_plugins.masking.refusals import remedy, wants_parts
from fttool_plugins.masking.spans import says_twice, spans
from fttool_plugins.masking.thoughts import EMPTY, begins_with_tag, check_thoughts, thought
from fttool_plugins.masking.tokens import Tokenization, Tokens, fillers, special_pattern
from fttool_plugins.masking.writing import Writer, Written

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from fttool_plugins.masking.of_turns import ControlTokens, Thoughts

IGNORED = -100
"""The label of a token that is not learned; torch's `cross_entropy` skips it."""


class _Talk(NamedTuple):
    """A conversation, rendered."""

    messages: Sequence[Message]
    template: Mapping[str, Any]
    """More variables for the chat template."""
    text: str
    filled: Filled | None
    """The pattern that its render fills, where there is one."""
    followed: Written | None
    """Its render with owners where there is none."""

    @property
    def written(self) -> Written:
        """The render with owners."""
        return self.filled.written if self.filled else cast("Written", self.followed)


class Conversations:
    """Makes tokens and labels of conversations; remembers how the chat template asks for answers and ends them."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, *, thoughts: Thoughts = "learn", control: ControlTokens = "refuse"
    ) -> None:
        self._tokenizer = tokenizer
        self._thoughts: Thoughts = thoughts
        self._control = Control(tokenizer, control)
        self._writer = Writer(tokenizer)
        self._patterns = Patterns()
        self._tokenization = Tokenization(tokenizer)
        special = special_pattern(tokenizer)
        self._prompts = Prompts(self._writer, special)
        self._ends = Ends(self._writer, special, str(tokenizer.eos_token or ""), fillers(tokenizer))
        self._additions = Additions(self._writer, special)

    def encode(
        self,
        messages: Sequence[Message],
        template: Mapping[str, Any],
        *,
        first: int = 0,
        unlearned: Collection[int] = (),
        also: Collection[str] = (),
    ) -> Encoded:
        """Tokens of the whole conversation, labels on the assistant's turns from message `first` on that are learned,
        and on the words of other roles that are learned `also`.

        `template` holds more variables for the chat template (`tools`, `enable_thinking` …). Raises `ValueError`
        where there is no such turn or it is empty, where its thought is incomplete, where control tokens in the texts
        are refused, and where the template refuses the conversation, leaves out a turn's text or never ends a turn.
        """
        roles = [message.get("role") for message in messages]
        learned = [index for index in range(first, len(messages)) if roles[index] == "assistant"]
        if not learned:
            where = f" from message {first + 1} on" if first else ""
            raise ValueError(f"no assistant turn{where}: there is nothing to learn")
        learned = [index for index in learned if index not in unlearned]
        source = self._source(template)
        for index in learned:
            check_not_empty(messages[index], index + 1)
            check_thoughts(messages[index], index + 1, source)
        controlled = self._control.check_conversation(messages, template)
        talk = self._rendered(messages, template)
        turns = [turn for index in learned for turn in self._turns(index, talk)]
        text = talk.text + "".join(turn.added for turn in turns)
        tokens = self._tokenization.tokens(text, [turn.start for turn in turns])
        if controlled and self._control.as_text:
            tokens = self._control.encoded(tokens, self._control.own(tokens, talk.written))
        labels, empty = self._labels(turns, talk, tokens)
        others = {index for index, role in enumerate(roles) if role in also and index >= first} - set(unlearned)
        for token in _words(others, talk.written, tokens) if others else ():
            labels[token] = tokens.ids[token]
        labels[0] = IGNORED  # nothing predicts the first token
        remarks = (*self._control.remarks(controlled), *([EMPTY] if empty else []))
        literal = controlled and self._control.as_text
        return Encoded(tokens.ids, labels, turns=tuple(learned), remarks=remarks, literal=literal)

    def _labels(self, turns: Sequence[Turn], talk: _Talk, tokens: Tokens) -> tuple[list[int], bool]:
        """The labels of these turns, and whether an empty thought is among what is learned."""
        labels, empty = [IGNORED] * len(tokens.ids), False
        for turn in turns:
            begin, teaches_empty = self._behind_thought(turn, talk)
            empty |= teaches_empty
            inside = tokens.turn(turn.start, turn.end) if begin == turn.start else None
            if inside is None:
                inside = _learned(turn, tokens)
                start = next((token for token in inside if tokens.place(token)[1] > begin), inside.stop)
                inside = range(start, inside.stop)
            labels[inside.start : inside.stop] = tokens.ids[inside.start : inside.stop]
        return labels, empty

    def encode_all(self, messages: Sequence[Message], template: Mapping[str, Any]) -> Encoded:
        """Tokens of a conversation whose texts hold control tokens, which are encoded as text; all but the first are
        learned. Raises `ValueError` where it cannot be told which they are.
        """
        talk = self._rendered(messages, template)
        tokens = self._tokenization.tokens(talk.text)
        ids = self._control.encoded(tokens, self._control.own(tokens, talk.written)).ids
        return Encoded(ids, [IGNORED, *ids[1:]], remarks=self._control.remarks(True), literal=True)

    def _source(self, template: Mapping[str, Any]) -> str:
        """The source of the chat template that writes a conversation."""
        if not getattr(self._tokenizer, "chat_template", None):
            return ""
        return str(self._tokenizer.get_chat_template(tools=template.get("tools")))

    def _behind_thought(self, turn: Turn, talk: _Talk) -> tuple[int, bool]:
        """The character from which a turn is learned, and whether an empty thought is."""
        opens = begins_with_tag(talk.text, turn.start, turn.end)
        closing = thought(talk.written, turn.start, turn.end) if opens else None
        if closing is None:
            return turn.start, False
        skipped = self._thoughts == "skip" or (self._thoughts == "skip-empty" and closing.empty)
        return (closing.end, False) if skipped else (turn.start, closing.empty)

    def _rendered(self, messages: Sequence[Message], template: Mapping[str, Any]) -> _Talk:
        """The conversation as inference writes it, with who wrote each character: by a pattern, or followed."""
        text = render(self._tokenizer, messages, template)
        filled = self._patterns.filled(messages, template, text)
        if filled:
            return _Talk(messages, template, text, filled, None)
        written = self._followed(messages, template, text)
        self._patterns.add(messages, template, written)
        return _Talk(messages, template, text, None, written)

    def _followed(self, messages: Sequence[Message], template: Mapping[str, Any], text: str) -> Written:
        """Who wrote each character of the conversation, proven to be the `text` that inference writes."""
        try:
            written = self._writer.write(messages, template)
        except ModelError:  # it does not end, or writes without measure
            raise
        except Exception as error:  # a template is foreign code: it may raise anything
            written, reason = None, f"it fails where its texts are followed: {error}"
        else:
            reason = "it writes another text where its texts are followed"
        if written is None or written.text != text:
            raise ChatTemplateError(
                f"it cannot be told which message wrote what the chat template writes: {reason}; masking 'all' works "
                "without"
            )
        return written

    def _turns(self, index: int, talk: _Talk) -> Sequence[Turn]:
        """What is learned of one message, in the order of the text."""
        turns = talk.filled.turns(index) if talk.filled else None
        if turns is None:
            turns = list(self._found(index, talk))
            if talk.filled:
                talk.filled.remember(index, turns)
        return turns

    def _found(self, index: int, talk: _Talk) -> Iterator[Turn]:
        """The turns of one message, by its words in the text and by what the template writes around them."""
        message, written = talk.messages[index], talk.written
        try:
            check_not_left_out(message, index + 1, written)
        except ChatTemplateError as fault:
            wanted = wants_parts(talk.messages, index, lambda said: self._writer.tried(said, talk.template))
            if not wanted:
                raise
            raise ValueError(f"{fault}{wanted}") from None
        twice = says_twice(written, index)
        alone = self._writer.tried(talk.messages[: index + 1], talk.template) if twice else None
        places = spans(written, index, alone)
        if not places:
            raise ChatTemplateError(f"the chat template leaves out message {index + 1}")
        prompt = ""
        for at, span in enumerate(places):
            start = span.start
            if at == 0:
                start, prompt = self._prompts.begin(written, span, index, talk.messages, talk.template)
            end = self._ends.end(written, places, at, index, talk.messages, talk.template, prompt)
            self._additions.check(written, index, (start, span.end + end.length), talk.messages, talk.template)
            yield Turn(index, start, span.end + end.length + len(end.added), end.added)


def render(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], template: Mapping[str, Any]) -> str:
    """The conversation as text, with `template` (`tools`, `enable_thinking` …) for the chat template.

    Raises `ValueError` where there is no chat template or it refuses the conversation.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise ValueError(
            "the tokenizer has no chat template, so it cannot write a conversation; "
            'choose one: [model] chat_template = "chatml", or a file'
        )
    if taken := sorted(_arguments(type(tokenizer)) & template.keys()):
        raise ValueError(f"'{taken[0]}' is not a variable of the chat template; it decides how it is used")

    def write(said: Sequence[Message]) -> str:
        return chat_text(tokenizer, said, **template)

    try:
        return write(messages)
    except ModelError:  # it does not end, or writes without measure
        raise
    except Exception as error:  # a template is foreign code: it may raise anything
        reason = f"the chat template refuses this conversation: {error}{remedy(messages, write)}"
        raise ValueError(reason) from error


@functools.cache
def _arguments(kind: type[PreTrainedTokenizerBase]) -> frozenset[str]:
    """What `apply_chat_template` takes for itself, so that no template gets to see it."""
    return frozenset(inspect.signature(kind.apply_chat_template).parameters) - {"self", "tools", "documents"}


def _words(messages: Collection[int], written: Written, tokens: Tokens) -> Iterator[int]:
    """The tokens that hold nothing but what these messages say, where the template writes it."""
    for run in written.runs if messages else ():
        if run.owner.message in messages and run.owner.field == "content":
            for token in tokens.within(run.start, run.end):
                start, end = tokens.place(token)
                if run.start <= start and end <= run.end:
                    yield token


def _learned(turn: Turn, tokens: Tokens) -> range:
    """The tokens of a turn without white space after; raises `ValueError` where none is text."""
    inside = tokens.within(turn.start, turn.end)
    while inside and tokens.is_blank(inside[-1]):
        inside = inside[:-1]
    if tokens.are_frame(inside):
        written = tokens.text[turn.start : turn.end]
        raise ChatTemplateError(f"of message {turn.message + 1} the chat template writes no text, only {written!r}")
    return inside
