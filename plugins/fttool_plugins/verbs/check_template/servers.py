"""Servers over HTTP: llama.cpp's, vLLM's, and those that have what either of them has."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

from typing_extensions import override

from fttool.api import Message, ModelError
from fttool.verbs import gist
from fttool_plugins.verbs.check_template.others import Other, RefusedError

SECONDS = 60
"""How long a server may take for one answer."""
MOST = 32 * 2**20
"""Bytes of an answer that are read."""
CERTAIN = 1e6
"""Added to a token's logit: the server then answers it, whatever else it would."""


def server(address: str) -> Other:
    """The server at an address, told by what it has; raises `ModelError` where none answers."""
    client = Client(address)
    try:
        return LlamaCpp(client, client.ask("/props"))
    except GoneError:
        return VLLM(client)


class GoneError(Exception):
    """Raised where a server has no such place."""


class Client:
    """JSON to one server and back: no proxy, no redirection to another one."""

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/").removesuffix("/v1")
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirection())

    def ask(self, path: str, content: Mapping[str, Any] | None = None) -> Any:
        """What it answers.

        Raises:
            GoneError: where there is nothing at this path.
            RefusedError: where it takes no such question.
            ModelError: where no server answers, or one that lets nobody in.
        """
        data = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"})
        try:
            with self._opener.open(request, timeout=SECONDS) as answer:
                return json.loads(answer.read(MOST))
        except urllib.error.HTTPError as refused:
            if refused.code in (404, 405, 501):
                raise GoneError from None
            raise self._refusal(path, refused.code, refused.read(MOST)) from None
        except (OSError, ValueError) as fault:
            message = f"no server answers {path}: {gist(fault)}"
            raise ModelError(message, where=self.address, hint="is it started, and is this its address?") from None

    def _refusal(self, path: str, code: int, body: bytes) -> ModelError:
        said = f"the server refuses {path} ({code}): {_reason(body)}"
        if code in (401, 403):
            hint = "start it without an API key, on loopback"
            return ModelError(said, where=self.address, hint=hint)
        if code == 503:
            return ModelError(said, where=self.address, hint="it may still be loading its model: try again")
        return RefusedError(said, where=self.address, hint="its own log says more")


def _reason(body: bytes) -> str:
    """What a refusal says: OpenAI's `error.message`, or the first of its text."""
    text = body.decode(errors="replace")
    try:
        found = json.loads(text)
        error = found.get("error", found)
        return str(error["message"]) if isinstance(error, Mapping) else str(error)
    except (ValueError, LookupError, AttributeError):
        return text[:500]


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    """Rows go to the server that was named, and to no other."""

    @override
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> None:
        return None


class LlamaCpp(Other):
    """llama.cpp's server: `/apply-template` writes the prompt, `/tokenize` makes tokens of it as an answer would.

    It tells the log-probability of a token that it answers, and of no prompt. So it is made to answer each token in
    turn, by a bias on its logit; the number that it tells is that from before the bias.
    """

    def __init__(self, client: Client, props: Any) -> None:
        self._client = client
        told: Mapping[str, Any] = props if isinstance(props, Mapping) else {}
        self._end = str(told.get("eos_token") or "")
        self.number_format = str(told.get("model_ftype") or "")
        self.name = f"llama.cpp at {client.address}"

    @override
    def prompt(self, messages: Sequence[Message], template: Mapping[str, Any]) -> list[int]:
        asked = {"messages": [dict(message) for message in messages], **_variables(template)}
        return self._tokens(str(_under(self._client.ask("/apply-template", asked), "prompt", self._client)), bos=True)

    @override
    def plain(self, text: str) -> list[int]:
        return self._tokens(text, bos=True)

    @override
    def stops_at(self, token: int, text: str) -> str:
        if self._tokens(text, bos=False) != [token]:
            return f"{text!r} is not one token to the server, or another one"
        answer = self._answering([token], token)
        why = answer.get("stop_type")
        if why == "eos" or (why is None and self._end in ("", text)):
            return ""
        other = f"; it ends one at {self._end!r}" if self._end not in ("", text) else ""
        return f"the server goes on behind {text!r}, with which training ends an answer{other}"

    @override
    def log_probabilities(self, ids: Sequence[int], places: Sequence[int]) -> list[float | None]:
        return [self._log_probability(list(ids[:place]), ids[place]) for place in places]

    def _log_probability(self, before: list[int], token: int) -> float | None:
        """None for a token that is not whole letters: of these llama.cpp says nothing."""
        found = self._answering(before, token).get("completion_probabilities") or [{}]
        value = found[0].get("logprob") if found[0].get("id") == token else None
        return float(value) if isinstance(value, int | float) else None

    def _answering(self, before: list[int], token: int) -> Mapping[str, Any]:
        """What it says of an answer of this one token."""
        asked = {
            "prompt": before,
            "n_predict": 1,
            "n_probs": 1,
            "temperature": 0,
            "logit_bias": [[token, CERTAIN]],
            "cache_prompt": True,
        }
        try:
            answer = self._client.ask("/completion", asked)
        except GoneError:
            return {}
        return answer if isinstance(answer, Mapping) else {}

    def _tokens(self, text: str, *, bos: bool) -> list[int]:
        asked = {"content": text, "add_special": bos, "parse_special": True}
        return [int(token) for token in _under(self._client.ask("/tokenize", asked), "tokens", self._client)]


class VLLM(Other):
    """vLLM's server, and those that have its `/tokenize`: it takes the conversation itself."""

    def __init__(self, client: Client) -> None:
        self._client = client
        models = self._ask("/v1/models")
        self._model = str(models["data"][0]["id"]) if models.get("data") else ""
        self.name = f"{self._model} at {client.address}"

    @override
    def prompt(self, messages: Sequence[Message], template: Mapping[str, Any]) -> list[int]:
        asked = {"messages": [dict(message) for message in messages], "add_generation_prompt": True}
        return self._tokens({**asked, **_variables(template)})

    @override
    def plain(self, text: str) -> list[int]:
        return self._tokens({"prompt": text})

    @override
    def stops_at(self, token: int, text: str) -> str:
        if self._tokens({"prompt": text, "add_special_tokens": False}) != [token]:
            return f"{text!r} is not one token to the server, or another one"
        allowed = {"allowed_token_ids": [token], "max_tokens": 2, "return_token_ids": True}
        answer = self._completion([token], allowed)
        if (answer.get("token_ids") or [None])[0] != token or answer.get("finish_reason") == "stop":
            return ""
        return f"the server goes on behind {text!r}, with which training ends an answer"

    @override
    def log_probabilities(self, ids: Sequence[int], places: Sequence[int]) -> list[float | None]:
        told = self._completion(ids, {"max_tokens": 1, "prompt_logprobs": 1}).get("prompt_logprobs")
        if not isinstance(told, list):
            return []
        of_each: list[Mapping[str, Any] | None] = told
        found = [(of_each[place] or {}).get(str(ids[place])) if place < len(of_each) else None for place in places]
        return [float(one["logprob"]) if isinstance(one, Mapping) else None for one in found]

    def _completion(self, ids: Sequence[int], more: Mapping[str, Any]) -> Mapping[str, Any]:
        """The first choice of an answer; empty where the server takes no such question."""
        asked = {"model": self._model, "prompt": list(ids), "temperature": 0, **more}
        try:
            answer = self._client.ask("/v1/completions", asked)
        except (GoneError, RefusedError):
            return {}
        choices = answer.get("choices") if isinstance(answer, Mapping) else None
        return choices[0] if choices else {}

    def _tokens(self, asked: Mapping[str, Any]) -> list[int]:
        answer = self._ask("/tokenize", {"model": self._model, **asked})
        return [int(token) for token in _under(answer, "tokens", self._client)]

    def _ask(self, path: str, content: Mapping[str, Any] | None = None) -> Any:
        try:
            return self._client.ask(path, content)
        except GoneError:
            message = f"the server has neither /props nor {path}, so its tokens cannot be asked for"
            hint = "llama.cpp's and vLLM's have what is needed"
            raise ModelError(message, where=self._client.address, hint=hint) from None


def _variables(template: Mapping[str, Any]) -> dict[str, Any]:
    """What else a conversation has for its template, as both servers take it."""
    more = dict(template)
    tools = {"tools": more.pop("tools")} if "tools" in more else {}
    return {**tools, "chat_template_kwargs": more} if more else tools


def _under(answer: Any, key: str, client: Client) -> Any:
    if not isinstance(answer, Mapping) or key not in answer:
        message = f"the server's answer has no '{key}': {json.dumps(answer)[:200]}"
        raise ModelError(message, where=client.address, hint="is it llama.cpp's or vLLM's?")
    return answer[key]
