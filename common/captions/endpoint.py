"""Captions from an OpenAI-compatible chat endpoint (vLLM or hosted) with a JSON schema.

The endpoint is not trusted: replies have a size limit and a deadline, are never decompressed, and
redirects are not followed. The key is sent in one header and occurs in no message, log or record; a
reply that repeats it is refused.

Servers differ in the settings that they know. A request that a server refuses because of one is sent again in another
form, and so are all later ones; the log says which.
"""

import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime
from typing import Any

import httpx
from pydantic import BaseModel, Field, SecretStr, ValidationError

from common.captions.records import Reply, Request, reply_schema
from common.captions.server_errors import Passing, Refused, ServerError, asked_wait_s, read_error
from common.config.captions import EndpointConfig
from common.contracts.generation import Price, Usage
from common.errors import ConfigError
from common.log import event, get_logger, track

log = get_logger("captions")

ENVELOPE_BYTES = 16384
"""Size allowed for a chat completion besides the caption JSON, and for the body of an error."""

SECRET_CHARACTERS = 16
"""Shorter keys are placeholders (vLLM's `EMPTY`) that may well stand in a caption or in a server's message."""

LEAST_TOKENS = 256

_CONTEXT = re.compile(
    r"context (?:length|window|size)|maximum context|too many tokens|max_tokens.{0,40}too large", re.I
)
_FILTERED = re.compile(r"content_filter|content management policy|content_policy", re.IGNORECASE)
_NO_CREDIT = {"insufficient_quota", "insufficient_balance", "billing_not_active", "billing_hard_limit_reached"}
_NAMED = {
    "max_tokens": re.compile(r"max_completion_tokens"),
    "temperature": re.compile(r"temperature"),
    "seed": re.compile(r"\bseed\b"),
    "response_format": re.compile(r"response_format|json_schema|structured output|guided", re.IGNORECASE),
    "system": re.compile(r"system role|roles? must alternate|role.{0,20}system|developer instruction", re.IGNORECASE),
}
"""How servers name a setting of the request that they do not know or take in another form."""


class _Message(BaseModel):
    content: str | list[dict[str, Any]] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None

    @property
    def text(self) -> str:
        """The answer; of a server that takes it for a thought, the thought."""
        if isinstance(self.content, list):
            return "".join(str(part["text"]) for part in self.content if isinstance(part.get("text"), str))
        return self.content or self.reasoning_content or self.reasoning or ""


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Tokens(BaseModel):
    prompt_tokens: int | None = Field(default=0, ge=0, lt=10**9)
    completion_tokens: int | None = Field(default=0, ge=0, lt=10**9)


class _Completion(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    usage: _Tokens | None = None


class EndpointWriter:
    """A `CaptionWriter` over HTTP, with the key as a bearer token; None = no header.

    Replies above `max_reply_bytes` are dropped while they arrive.
    """

    def __init__(self, config: EndpointConfig, max_reply_bytes: int, api_key: SecretStr | None = None) -> None:
        self._config, self._max_bytes = config, max_reply_bytes + ENVELOPE_BYTES
        key = api_key.get_secret_value() if api_key else ""
        self._key, self._secret = api_key, key if len(key) >= SECRET_CHARACTERS else None
        self._other_form: set[str] = set()
        self._most_tokens = 10**9
        self._over: ConfigError | None = None
        headers = {"accept-encoding": "identity"}
        if key:
            headers["authorization"] = f"Bearer {key}"
        # No trust_env: a netrc entry would replace the key, and a proxy variable would expose the prompts.
        self._client = httpx.Client(
            headers=headers,
            timeout=config.timeout_s,
            trust_env=False,
            follow_redirects=False,
            limits=httpx.Limits(max_connections=config.concurrency, max_keepalive_connections=config.concurrency),
        )

    @property
    def name(self) -> str:
        """Requested model name; the server's own name for it is not trusted."""
        return f"endpoint:{self._config.model}"

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def replies(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        """Yield index and reply of each request as they arrive, at most `concurrency` in flight.

        Raises ConfigError: the endpoint refuses the key or the request, does not know the model or the path, has no
        credit left, or limits requests for longer than `limit_wait_s`.
        """
        if not requests:
            return
        with ThreadPoolExecutor(min(self._config.concurrency, len(requests))) as pool:
            futures = {pool.submit(self._reply, request): index for index, request in enumerate(requests)}
            try:
                for future in track(as_completed(futures), log, "captions_written", len(requests)):
                    yield futures[future], future.result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _reply(self, request: Request) -> Reply:
        """Send a request until it is answered or refused, or failed `attempts` times."""
        began, failed = time.monotonic(), Counter[str]()
        sent = faults = 0
        while True:
            if self._over:
                raise self._over
            sent += 1
            try:
                reply = self._post(request)
            except Refused as failure:
                reply = Reply(failure=str(failure))
            except Passing as failure:
                reply = Reply(failure=str(failure))
                faults += failure.kind == "fault"
                pause_s = failure.pause_s(sent, self._config.max_wait_s)
                if failure.kind == "limit" and time.monotonic() - began + pause_s > self._config.limit_wait_s:
                    asked = f" and asks to wait {failure.wait_s:.0f} s" if failure.wait_s else ""
                    raise self._error(
                        f"answered 429{asked}: longer than writer.endpoint.limit_wait_s {self._config.limit_wait_s:g}",
                        "run the same command later, replies so far are kept; or lower writer.endpoint.concurrency",
                    ) from None
                if failure.kind != "fault" or faults < self._config.attempts:
                    failed[str(failure)] += 1
                    event(log, "caption_retry", attempt=sent, reason=failure, wait_s=pause_s)
                    time.sleep(pause_s)
                    continue
            failed.update([reply.failure] if reply.failure else [])
            return reply._replace(usage=reply.usage.model_copy(update={"requests": sent, "failed": dict(failed)}))

    def _post(self, request: Request) -> Reply:
        deadline = time.monotonic() + self._config.timeout_s
        url = f"{self._config.base_url.rstrip('/')}/chat/completions"
        sent = self._body(request)
        try:
            with self._client.stream("POST", url, json=sent) as response:
                plain = response.headers.get("content-encoding", "identity") == "identity"
                if response.status_code != 200:
                    error = self._received(response, ENVELOPE_BYTES, deadline) if plain else b""
                    self._raise_error(response, error.decode("utf-8", "replace"), sent)
                if not plain:
                    raise Refused("encoding")
                body = self._received(response, self._max_bytes, deadline)
        except httpx.TimeoutException:
            raise Passing("timeout") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError):
            # The exception's text may quote the request, so only its kind is kept.
            raise Passing("connection") from None
        return self._read(body)

    def _received(self, response: httpx.Response, most_bytes: int, deadline: float) -> bytes:
        body = bytearray()
        for chunk in response.iter_raw():
            body += chunk
            if len(body) > most_bytes:
                if response.status_code != 200:
                    return bytes(body[:most_bytes])
                raise Refused("too_large")
            if time.monotonic() > deadline:
                raise Passing("timeout")
        return bytes(body)

    def _body(self, request: Request) -> dict[str, Any]:
        messages = list(request.messages)
        if "system" in self._other_form:
            messages = [{"role": "user", "content": "\n\n".join(one["content"] for one in messages)}]
        body: dict[str, Any] = {"model": self._config.model, "messages": messages}
        tokens = "max_completion_tokens" if "max_tokens" in self._other_form else "max_tokens"
        body[tokens] = min(self._config.max_tokens * request.room, self._most_tokens)
        if "temperature" not in self._other_form:
            body["temperature"] = self._config.temperature
        if "seed" not in self._other_form:
            body["seed"] = request.seed
        if "response_format" not in self._other_form:
            schema = {"name": request.task.prompt, "strict": True, "schema": reply_schema(request.task.prompt)}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body | self._config.extra

    def _raise_error(self, response: httpx.Response, body: str, sent: Mapping[str, Any]) -> None:
        status, error = response.status_code, read_error(self._without_key(body))
        words = f"{status}: {error.message}" if error.message else str(status)
        if status == 402 or error.codes & _NO_CREDIT:
            raise self._error(
                f"has no credit left for this key ({words})",
                "top up the account, then run the same command: replies so far are kept; or set another writer",
            )
        if status in (401, 403):
            raise self._error(
                f"answered {words}",
                f"expected a valid key in the environment variable {self._config.api_key_variable} "
                f"({'one was sent' if self._key else 'it is not set'})",
            )
        if status in (400, 422, 501):
            # Words about the texts of one request do not end the stage.
            if _FILTERED.search(f"{error.message} {' '.join(error.codes)}"):
                raise Refused("content_filter")
            if "json_validate_failed" in error.codes:
                raise Refused("not_json")
            if self._adapt(error, sent):
                raise Passing(f"http_{status}", kind="adapted")
        if status in (400, 404, 405, 422, 501):
            expected = (
                f"expected an OpenAI-compatible server with the model {self._config.model!r}"
                if status in (404, 405)
                else "expected a server that takes the request, with room for the prompt in the model's context"
            )
            raise self._error(f"answered {words}", f"{expected}; check writer.endpoint")
        if status in (408, 409, 425, 429) or status >= 500:
            headers = {name.lower(): value for name, value in response.headers.items()}
            wait_s = asked_wait_s(headers, body, datetime.now(UTC))
            raise Passing(f"http_{status}", wait_s, "limit" if status == 429 else "fault")
        raise Refused(f"http_{status}")

    def _adapt(self, error: ServerError, sent: Mapping[str, Any]) -> bool:
        """Give up a setting that the server names and that was sent; False if there is none.

        Fields of `extra` are sent whatever the server says of them.
        """
        free = {name: value for name, value in sent.items() if name not in self._config.extra}
        tokens = int(free.get("max_tokens") or free.get("max_completion_tokens") or 0)
        said = f"{error.message} {' '.join(error.codes)}"
        if _CONTEXT.search(said):
            if tokens <= LEAST_TOKENS:
                return False
            self._most_tokens = min(self._most_tokens, max(LEAST_TOKENS, tokens // 2))
            event(log, "caption_request_adapted", setting="max_tokens", to=self._most_tokens, said=error.message)
            return True
        present = {*free, *(message["role"] for message in free.get("messages", ()))}
        for setting, named in _NAMED.items():
            if setting in present and named.search(said):
                self._other_form.add(setting)
                event(log, "caption_request_adapted", setting=setting, to="another form", said=error.message)
                return True
        return False

    def _error(self, found: str, advice: str) -> ConfigError:
        self._over = ConfigError(f"the caption endpoint {self._config.base_url} {found}; {advice}")
        return self._over

    def _without_key(self, text: str) -> str:
        return re.sub(re.escape(self._secret), "[key]", text, flags=re.IGNORECASE) if self._secret else text

    def _read(self, body: bytes) -> Reply:
        if self._secret and self._secret.encode() in body:
            raise Refused("echoed_key")
        try:
            completion = _Completion.model_validate_json(body)
        except (ValidationError, RecursionError):
            raise Refused("envelope") from None
        choice, tokens = completion.choices[0], completion.usage or _Tokens()
        text = choice.message.text
        if self._secret and self._secret in text:
            raise Refused("echoed_key")
        sent, written = tokens.prompt_tokens or 0, tokens.completion_tokens or 0
        cost = (sent * self._config.price_per_million_input + written * self._config.price_per_million_output) / 1e6
        usage = Usage(paid=Price(input_tokens=sent, output_tokens=written, cost=cost))
        ended = (choice.finish_reason or "").lower()
        if ended in ("length", "max_tokens"):
            # A thought that was cut off is no part of an answer.
            return Reply(text=text if choice.message.content else "", failure="cut_off", usage=usage)
        if ended in ("content_filter", "safety", "recitation", "prohibited_content"):
            return Reply(failure="content_filter", usage=usage)
        if choice.message.refusal and not choice.message.content:
            return Reply(failure="refused", usage=usage)
        return Reply(text=text, usage=usage)
