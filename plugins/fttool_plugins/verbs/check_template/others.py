"""Who is asked for tokens: a server over HTTP, or a tokenizer that transformers loads."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from typing_extensions import override

from fttool.api import Message, ModelError, UsageError, chat_ids
from fttool.verbs import gist

SECONDS = 20
"""How long a server may take for one answer."""
MOST = 32 * 2**20
"""Bytes of an answer that are read."""
ENDS = (
    *("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<end_of_turn>", "<|return|>", "<|call|>"),
    *("<|END_OF_TURN_TOKEN|>", "<｜end▁of▁sentence｜>", "<|end_of_text|>", "<EOT>", "<turn|>", "<end_of_utterance>"),
)
"""Tokens at which llama.cpp ends an answer whatever a model's metadata say, as they are called (`llama-vocab.cpp`)."""


class Other(ABC):
    """Somebody who makes tokens of conversations."""

    name: str
    """What it is called."""

    @abstractmethod
    def prompt(self, messages: Sequence[Message], template: Mapping[str, Any]) -> list[int]:
        """The tokens that it would answer."""

    @abstractmethod
    def plain(self, text: str) -> list[int]:
        """Those of a prompt in plain text."""

    @abstractmethod
    def stops_at(self, token: int, text: str) -> str:
        """Why it would not end an answer at this token; empty where it does, or does not say."""


def other(against: str, *, trust_remote_code: bool = False) -> Other:
    """The server at a URL, or the tokenizer of a model.

    Raises:
        UsageError: for a URL of another kind than HTTP, and a path without a model.
        ModelError: for a server that does not answer, and a tokenizer that cannot be loaded.
    """
    scheme, mark, _ = against.partition("://")
    if mark and scheme not in ("http", "https"):
        raise UsageError(f"'{against}' is not an address of HTTP", hint="write http://127.0.0.1:8080")
    return _server(against) if mark else Transformers(Path(against), trust_remote_code)


# -- servers ---------------------------------------------------------------------------------------------------------


class _Gone(Exception):  # noqa: N818 - it is an answer
    """The server has no such place."""


class _Client:
    """JSON to one server and back: no proxy, no redirection to another one."""

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/").removesuffix("/v1")
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirection())

    def ask(self, path: str, content: Mapping[str, Any] | None = None) -> Any:
        """What it answers; raises `_Gone` where there is nothing, `ModelError` for anything else."""
        data = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"})
        try:
            with self._opener.open(request, timeout=SECONDS) as answer:
                return json.loads(answer.read(MOST))
        except urllib.error.HTTPError as refused:
            if refused.code in (404, 405, 501):
                raise _Gone from None
            said = refused.read(500).decode(errors="replace")
            message = f"the server refuses {path} ({refused.code}): {said}"
            raise ModelError(message, where=self.address, hint="its own log says more") from None
        except (OSError, ValueError) as fault:
            message = f"no server answers {path}: {gist(fault)}"
            raise ModelError(message, where=self.address, hint="is it started, and is this its address?") from None


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    """Rows go to the server that was named, and to no other."""

    @override
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> None:
        return None


def _server(address: str) -> Other:
    client = _Client(address)
    try:
        return LlamaCpp(client, client.ask("/props"))
    except _Gone:
        return VLLM(client)


class LlamaCpp(Other):
    """llama.cpp's server: `/apply-template` writes the prompt, `/tokenize` makes tokens of it as an answer would."""

    def __init__(self, client: _Client, props: Any) -> None:
        self._client = client
        self._end = str(props.get("eos_token") or "") if isinstance(props, Mapping) else ""
        self.name = f"llama.cpp at {client.address}"

    @override
    def prompt(self, messages: Sequence[Message], template: Mapping[str, Any]) -> list[int]:
        more = dict(template)
        tools = {"tools": more.pop("tools")} if "tools" in more else {}
        variables = {"chat_template_kwargs": more} if more else {}
        asked = {"messages": [dict(message) for message in messages], **tools, **variables}
        return self._tokens(str(_under(self._client.ask("/apply-template", asked), "prompt", self._client)), bos=True)

    @override
    def plain(self, text: str) -> list[int]:
        return self._tokens(text, bos=True)

    @override
    def stops_at(self, token: int, text: str) -> str:
        if self._tokens(text, bos=False) != [token]:
            return f"{text!r} is not one token to the server, or another one"
        if not self._end or self._end == text or text in ENDS:
            return ""
        return f"the server ends an answer at {self._end!r}, and training ends it with {text!r}"

    def _tokens(self, text: str, *, bos: bool) -> list[int]:
        asked = {"content": text, "add_special": bos, "parse_special": True}
        return [int(token) for token in _under(self._client.ask("/tokenize", asked), "tokens", self._client)]


class VLLM(Other):
    """vLLM's server, and those that have its `/tokenize`: it takes the conversation itself."""

    def __init__(self, client: _Client) -> None:
        self._client = client
        models = self._ask("/v1/models")
        self._model = str(models["data"][0]["id"]) if models.get("data") else ""
        self.name = f"{self._model} at {client.address}"

    @override
    def prompt(self, messages: Sequence[Message], template: Mapping[str, Any]) -> list[int]:
        more = dict(template)
        tools = {"tools": more.pop("tools")} if "tools" in more else {}
        variables = {"chat_template_kwargs": more} if more else {}
        asked = {"messages": [dict(message) for message in messages], "add_generation_prompt": True}
        return self._tokens({**asked, **tools, **variables})

    @override
    def plain(self, text: str) -> list[int]:
        return self._tokens({"prompt": text})

    @override
    def stops_at(self, token: int, text: str) -> str:
        known = self._tokens({"prompt": text, "add_special_tokens": False})
        return "" if known == [token] else f"{text!r} is not one token to the server, or another one"

    def _tokens(self, asked: Mapping[str, Any]) -> list[int]:
        answer = self._ask("/tokenize", {"model": self._model, **asked})
        return [int(token) for token in _under(answer, "tokens", self._client)]

    def _ask(self, path: str, content: Mapping[str, Any] | None = None) -> Any:
        try:
            return self._client.ask(path, content)
        except _Gone:
            message = f"the server has neither /props nor {path}, so its tokens cannot be asked for"
            hint = "llama.cpp's and vLLM's have what is needed"
            raise ModelError(message, where=self._client.address, hint=hint) from None


def _under(answer: Any, key: str, client: _Client) -> Any:
    if not isinstance(answer, Mapping) or key not in answer:
        message = f"the server's answer has no '{key}': {json.dumps(answer)[:200]}"
        raise ModelError(message, where=client.address, hint="is it llama.cpp's or vLLM's?")
    return answer[key]


# -- transformers ----------------------------------------------------------------------------------------------------


class Transformers(Other):
    """A model's folder or GGUF file, with nothing around it but transformers."""

    def __init__(self, path: Path, trust_remote_code: bool) -> None:
        from transformers import AutoTokenizer, GenerationConfig

        folder = path / "model" if (path / "model").is_dir() else path
        file = {"gguf_file": path.name} if path.is_file() else {}
        folder = path.parent if file else folder
        if not folder.is_dir():
            raise UsageError(f"'{path}' is neither a folder with a model nor a file", hint="or write http://…")
        self.name = str(path)
        options = {"local_files_only": True, "trust_remote_code": trust_remote_code, **file}
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(str(folder), **options)
        except Exception as fault:  # transformers raises a dozen kinds
            message = f"its tokenizer cannot be loaded: {gist(fault)}"
            raise ModelError(message, where=str(path), hint="name another folder") from fault
        self._stops = {self._tokenizer.eos_token_id}
        if (folder / "generation_config.json").is_file() and not file:
            ends: Any = GenerationConfig.from_pretrained(str(folder)).eos_token_id
            self._stops = set(ends) if isinstance(ends, list) else {ends} if ends is not None else self._stops

    @override
    def prompt(self, messages: Sequence[Message], template: Mapping[str, Any]) -> list[int]:
        try:
            return chat_ids(self._tokenizer, messages, add_generation_prompt=True, **template)
        except ModelError:
            raise
        except Exception as fault:  # a template is foreign code: it may raise anything
            hint = "name a model with a chat template that takes the run's rows"
            raise ModelError(f"its chat template fails: {gist(fault)}", where=self.name, hint=hint) from fault

    @override
    def plain(self, text: str) -> list[int]:
        return list(self._tokenizer(text)["input_ids"])

    @override
    def stops_at(self, token: int, text: str) -> str:
        known = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        if list(known) != [token]:
            return f"{text!r} is not one token there, or another one"
        ends = [self._tokenizer.decode([stop]) for stop in self._stops if isinstance(stop, int)]
        if token in self._stops:
            return ""
        listed = " or ".join(map(repr, ends)) or "no token"
        return f"it ends an answer at {listed}, and training ends it with {text!r}"
