"""Captions from an OpenAI-compatible chat endpoint (vLLM or hosted) with a JSON schema.

The endpoint is not trusted: replies have a size limit and a deadline, are never decompressed, and
redirects are not followed. The key is sent in one header and occurs in no message, log or record; a
reply that repeats it is refused.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from types import TracebackType

import httpx
from pydantic import BaseModel, Field, SecretStr, ValidationError
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from common.captions.prompts import reply_schema
from common.captions.records import Price, Reply, Request, Usage
from common.config.captions import EndpointConfig
from common.errors import ConfigError
from common.log import Progress, event, get_logger

log = get_logger("captions")

ENVELOPE_BYTES = 16384
"""Size allowed for a chat completion besides the caption JSON."""


class _Refused(Exception):
    """Permanent failure of a request; the message is a reason code."""


class _Passing(Exception):
    """Transient failure of a request; the message is a reason code."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class _Message(BaseModel):
    content: str


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Tokens(BaseModel):
    prompt_tokens: int = Field(default=0, ge=0, lt=10**9)
    completion_tokens: int = Field(default=0, ge=0, lt=10**9)


class _Completion(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    usage: _Tokens = _Tokens()


class EndpointWriter:
    """A `CaptionWriter` over HTTP; use it as a context manager.

    Args:
        max_reply_bytes: larger replies are dropped while they arrive.
        api_key: sent as a bearer token; None = no header.
    """

    def __init__(self, config: EndpointConfig, max_reply_bytes: int, api_key: SecretStr | None = None) -> None:
        self._config, self._max_bytes, self._key = config, max_reply_bytes + ENVELOPE_BYTES, api_key
        headers = {"accept-encoding": "identity"}
        if api_key is not None:
            headers["authorization"] = f"Bearer {api_key.get_secret_value()}"
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

    def __enter__(self) -> EndpointWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def replies(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        """Yield index and reply of each request as they arrive, at most `concurrency` in flight.

        Raises:
            ConfigError: the endpoint refuses the key or does not know the model or the path.
        """
        if not requests:
            return
        progress = Progress(log, "captions_written", len(requests))
        with ThreadPoolExecutor(min(self._config.concurrency, len(requests))) as pool:
            futures = {pool.submit(self._reply, request): index for index, request in enumerate(requests)}
            try:
                for future in as_completed(futures):
                    yield futures[future], future.result()
                    progress.advance()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _reply(self, request: Request) -> Reply:
        sent = 0
        failed: Counter[str] = Counter()

        def attempt() -> Reply:
            nonlocal sent
            sent += 1
            try:
                reply = self._post(request)
            except (_Passing, _Refused) as failure:
                failed[str(failure)] += 1
                raise
            failed.update([reply.failure] if reply.failure else [])
            return reply

        retrying = Retrying(
            stop=stop_after_attempt(self._config.attempts),
            wait=_Wait(self._config.max_wait_s),
            retry=retry_if_exception_type(_Passing),
            before_sleep=_log_retry,
            reraise=True,
        )
        try:
            reply = retrying(attempt)
        except (_Passing, _Refused) as failure:
            return Reply(failure=str(failure), usage=Usage(requests=sent, failed=dict(failed)))
        return reply._replace(usage=reply.usage.model_copy(update={"requests": sent, "failed": dict(failed)}))

    def _post(self, request: Request) -> Reply:
        deadline = time.monotonic() + self._config.timeout_s
        url = f"{self._config.base_url.rstrip('/')}/chat/completions"
        try:
            with self._client.stream("POST", url, json=self._body(request)) as response:
                self._check_status(response)
                body = bytearray()
                for chunk in response.iter_raw():
                    body += chunk
                    if len(body) > self._max_bytes:
                        raise _Refused("too_large")
                    if time.monotonic() > deadline:
                        raise _Passing("timeout")
        except httpx.TimeoutException:
            raise _Passing("timeout") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError):
            # The exception's text may quote the request, so only its kind is kept.
            raise _Passing("connection") from None
        return self._read(bytes(body))

    def _body(self, request: Request) -> dict[str, object]:
        return {
            "model": self._config.model,
            "messages": [message.model_dump() for message in request.messages],
            "temperature": self._config.temperature,
            "max_tokens": self._config.max_tokens,
            "seed": request.seed,
            "response_format": {
                "type": "json_schema",
                "json_schema": {
                    "name": request.task.prompt,
                    "strict": True,
                    "schema": reply_schema(request.task.prompt),
                },
            },
        }

    def _check_status(self, response: httpx.Response) -> None:
        status = response.status_code
        if status in (401, 403):
            raise ConfigError(
                f"the caption endpoint {self._config.base_url} answered {status}; expected a valid key in the "
                f"environment variable {self._config.api_key_variable} "
                f"({'one was sent' if self._key else 'it is not set'})"
            )
        if status in (400, 404, 405, 422):
            raise ConfigError(
                f"the caption endpoint {self._config.base_url} answered {status}; expected an OpenAI-compatible server "
                f"with the model {self._config.model!r} and response_format json_schema; check writer.endpoint"
            )
        if status in (408, 409, 425, 429) or status >= 500:
            raise _Passing(f"http_{status}", _retry_after(response))
        if status != 200:
            raise _Refused(f"http_{status}")
        if response.headers.get("content-encoding", "identity") != "identity":
            raise _Refused("encoding")

    def _read(self, body: bytes) -> Reply:
        if self._key is not None and self._key.get_secret_value().encode() in body:
            raise _Refused("echoed_key")
        try:
            completion = _Completion.model_validate_json(body)
        except (ValidationError, RecursionError):
            raise _Refused("envelope") from None
        choice, tokens = completion.choices[0], completion.usage
        if self._key is not None and self._key.get_secret_value().lower() in choice.message.content.lower():
            raise _Refused("echoed_key")
        cost = (
            tokens.prompt_tokens * self._config.price_per_million_input
            + tokens.completion_tokens * self._config.price_per_million_output
        ) / 1e6
        paid = Price(input_tokens=tokens.prompt_tokens, output_tokens=tokens.completion_tokens, cost=cost)
        usage = Usage(paid=paid)
        if choice.finish_reason == "length":
            return Reply(failure="cut_off", usage=usage)
        return Reply(text=choice.message.content, usage=usage)


def _retry_after(response: httpx.Response) -> float:
    text = response.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0.0


class _Wait(wait_random_exponential):
    """Exponential backoff with full jitter, at least the server's Retry-After, at most `longest_s`."""

    def __init__(self, longest_s: float) -> None:
        super().__init__(multiplier=min(1.0, longest_s), max=longest_s)
        self._longest_s = longest_s

    def __call__(self, retry_state: RetryCallState) -> float:
        failure = retry_state.outcome.exception() if retry_state.outcome else None
        asked = failure.wait_s if isinstance(failure, _Passing) else 0.0
        return min(self._longest_s, max(asked, super().__call__(retry_state)))


def _log_retry(state: RetryCallState) -> None:
    failure = state.outcome.exception() if state.outcome else None
    wait_s = state.next_action.sleep if state.next_action else 0.0
    event(log, "caption_retry", attempt=state.attempt_number, reason=failure, wait_s=float(wait_s))
