"""Settings of the caption stages: `caption_clips`, `augment_captions`, `revise_captions`."""

import math
import re
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, JsonValue, model_validator

from common.config.base import Count, Frozen, Natural, NonNegative, Plan, Positive, PositiveShare, Share
from common.config.recipes import Recipe

_COMMIT = re.compile(r"[0-9a-f]{40}")


class Checkpoint(Frozen):
    """A transformers checkpoint: a hub id with its commit, or a local folder."""

    model: str = Field(min_length=1, description="hub id, or a folder (starting with `/` or `.`)")
    revision: str | None = Field(description="commit of the hub id, 40 hex digits; a branch could change under a run")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"

    @model_validator(mode="after")
    def _revision_pinned(self) -> Self:
        local = self.model.startswith(("/", "."))
        if not local and not _COMMIT.fullmatch(self.revision or ""):
            raise ValueError(f"{self.model} needs `revision`: the 40 hex digits of a commit (found {self.revision!r})")
        return self


class CheckConfig(Frozen):
    """Requirements on a caption, whichever writer it comes from."""

    max_words: int = Field(25, ge=5, description="paper: 20 to 25; longer ones are cut after a clause, never the label")
    min_ascii_share: Share = Field(0.9, description="of the letters outside the label; ours: prompts are in English")
    max_reply_bytes: int = Field(65536, ge=1024, description="ours: five captions take under 2 kB")
    max_depth: int = Field(8, ge=3, description="of brackets in a reply; ours: a valid one has 2")
    max_replaced_share: Share = Field(0.5, description="that the grammar wrote for a model; above it the stage fails")


class EndpointConfig(Frozen):
    """An OpenAI-compatible chat endpoint: vLLM, or a hosted one."""

    base_url: str = Field("http://localhost:8000/v1", description="vLLM's default; without credentials in it")
    model: str = Field("Qwen/Qwen2.5-7B-Instruct", min_length=1, description="paper: gpt-4o; ours: an open one")
    api_key_variable: str = Field("SYNTHIO_LLM_API_KEY", pattern=r"^[A-Z][A-Z0-9_]*$", description="unset = no key")
    temperature: float = Field(0.7, ge=0, le=2, description="official code")
    max_tokens: Count = Field(4096, description="official code")
    extra: dict[str, JsonValue] = Field({}, description="further fields of requests, such as chat_template_kwargs")
    timeout_s: Positive = Field(60.0, description="of one request, from sending to the last byte; ours")
    attempts: int = Field(5, ge=1, le=20, description="of one request; ours")
    max_wait_s: NonNegative = Field(30.0, description="between attempts, exponential with jitter; ours")
    limit_wait_s: NonNegative = Field(600.0, description="how long a request is tried on HTTP status 429; ours")
    concurrency: int = Field(8, ge=1, le=256, description="requests in flight; ours")
    price_per_million_input: NonNegative = Field(0.0, description="money per million tokens; 0: own server")
    price_per_million_output: NonNegative = Field(0.0, description="money per million tokens; 0: own server")

    @model_validator(mode="after")
    def _url_is_plain(self) -> Self:
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("base_url must be http://host[:port]/path or https://…, like http://localhost:8000/v1")
        if parts.username or parts.password or parts.query:
            raise ValueError(f"base_url must hold no credentials and no query; put the key in ${self.api_key_variable}")
        return self


class ChatModelConfig(Frozen):
    """A local chat model through transformers."""

    checkpoint: Checkpoint = Field(
        Checkpoint(model="Qwen/Qwen2.5-7B-Instruct", revision="a09a35458c702b33eeacc393d103063234e8bc28"),
        description="ours: Apache-2.0, follows JSON instructions",
    )
    batch_size: Count = 16
    temperature: float = Field(0.7, ge=0, le=2, description="official code")
    top_p: PositiveShare = Field(1.0, description="official code: not set")
    max_new_tokens: Count = Field(512, description="ours: five captions take about 200")


class GrammarConfig(Frozen):
    """The embedded grammar: composes captions from the vocabulary of the built-in corpus; never reads audio."""

    reuse_share: Share = Field(0.75, description="of elements from the pool; paper's prompt 2: a small share is new")
    template_share: Share = Field(0.5, description="of captions like the template `sound of a`, as in alignment")
    max_elements: int = Field(3, ge=1, le=6, description="beside the label; ours")


class WriterConfig(Frozen):
    """Choice of the caption writer. The settings of all back ends are present, so an override can switch `backend`."""

    backend: Literal["endpoint", "chat_model", "grammar"] = Field("endpoint", description="paper: hosted LLM")
    endpoint: EndpointConfig = EndpointConfig()
    chat_model: ChatModelConfig = ChatModelConfig()
    grammar: GrammarConfig = Field(GrammarConfig(), description="also stands in for the other two")
    checks: CheckConfig = CheckConfig()


class AudioLLMConfig(Frozen):
    """An audio LLM through transformers: Qwen2-Audio, or the Thinker of Qwen2.5-Omni."""

    checkpoint: Checkpoint = Field(
        Checkpoint(model="Qwen/Qwen2-Audio-7B-Instruct", revision="0a095220c30b7b31434169c3086508ef3ea5bf0a"),
        description="ours, because GAMA (official code) needs a forked transformers",
    )
    batch_size: Count = 8
    temperature: float = Field(0.1, ge=0, le=2, description="official code; 0 = greedy")
    top_p: PositiveShare = Field(0.95, description="official code")
    max_new_tokens: Count = Field(96, description="official code: 400; ours: one sentence")


class CaptionClipsConfig(Frozen):
    """Captioning of the gold training clips."""

    backend: Literal["audio_llm", "acoustics"] = Field("audio_llm", description="paper: an audio LLM")
    audio_llm: AudioLLMConfig = AudioLLMConfig()
    max_words: int = Field(60, ge=5, description="longer replies are cut after a clause; ours")
    min_ascii_share: Share = Field(0.9, description="as for written captions")
    max_replaced_share: Share = Field(0.5, description="as for written captions")
    sample_rate_hz: int = Field(16000, ge=8000, le=48000, description="of the acoustic measurements; ours")


class CaptionClipsPlan(Plan):
    """Input of `caption_clips`."""

    settings: CaptionClipsConfig = CaptionClipsConfig()
    replicates: tuple[int, ...]


class AugmentCaptionsConfig(Frozen):
    """Writing of new captions for the clips to be generated."""

    writer: WriterConfig = WriterConfig()
    captions_per_call: int = Field(5, ge=1, le=10, description="official code")
    pool_share: PositiveShare = Field(0.75, description="of the label's elements, per call; official code")


class AugmentCaptionsPlan(Plan):
    """Input of `augment_captions`."""

    settings: AugmentCaptionsConfig = AugmentCaptionsConfig()
    replicates: tuple[int, ...]
    recipes: tuple[Recipe, ...]
    augmentation_factor: int = Field(ge=1, le=20)
    surplus: float = Field(1.0, ge=1, description="captions for each one wanted, of recipes with a filter")
    domain: str = ""

    @property
    def captions_per_clip(self) -> int:
        """Captions per gold clip, with the surplus where a recipe has a filter."""
        surplus = self.surplus if any(recipe.filter for recipe in self.recipes) else 1
        return math.ceil(self.augmentation_factor * surplus)


class ReviseCaptionsConfig(Frozen):
    """Revision of the captions of rejected clips."""

    writer: WriterConfig = WriterConfig()
    pool_share: PositiveShare = Field(0.75, description="of the accepted elements, for one call; as above")


class ReviseCaptionsPlan(Plan):
    """Input of `revise_captions`."""

    settings: ReviseCaptionsConfig = ReviseCaptionsConfig()
    replicates: tuple[int, ...]
    recipes: tuple[Recipe, ...]
    rounds: Natural = Field(description="of recipes that do not state their own")
    domain: str = ""
