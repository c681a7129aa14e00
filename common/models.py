"""Published models: which commit is meant, whether it is here, and what its licence asks for. Free of torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from pydantic import Field

from common.config.base import Frozen
from common.config.licence import PermittedUse
from common.errors import ConfigError, DataError
from common.hashing import hash_file
from common.log import event, get_logger

if TYPE_CHECKING:
    from common.config.run import RunConfig

MODELS_FILE = Path(__file__).parent / "models.yaml"
_SHA256 = re.compile("[0-9a-f]{64}")

log = get_logger("models")


class PublishedModel(Frozen):
    """One entry of `models.yaml`."""

    revision: str | None = Field(pattern="^[0-9a-f]{40}$", description="commit on the hub; null = not looked up")
    revision_seen: str = Field(description="where that commit stands")
    licence: str
    gated: bool = Field(description="whether the licence must be accepted on the model's page")
    restrictions: str
    use: PermittedUse | None = Field(default=None, description="the widest that the licence allows; null = not known")
    sha256: dict[str, str] = Field(description="of files")


@cache
def published_models() -> Mapping[str, PublishedModel]:
    """`models.yaml` by hub id."""
    entries = yaml.safe_load(MODELS_FILE.read_text(encoding="utf-8"))
    return {name: PublishedModel.model_validate(entry) for name, entry in entries.items()}


def pinned_revision(model: str, revision: str | None) -> str | None:
    """The commit that is meant: the one asked for, else that of `models.yaml`; None = none is known."""
    known = published_models().get(model)
    return revision or (known.revision if known else None)


def is_published(name: str) -> bool:
    """Whether `name` is a hub id and no folder."""
    return not Path(name).is_dir() and not name.startswith(("/", "."))


def locate(model: str, revision: str | None, patterns: Sequence[str]) -> Path:
    """The folder of a model: `model` itself when it is one, else a snapshot of the hub id, its hashes checked.

    Args:
        model: folder or hub id.
        revision: commit of the hub id; None = the one in `models.yaml`.
        patterns: files of the snapshot.

    Raises:
        ConfigError: it can neither be found nor downloaded.
        DataError: a file is not what the hub or `models.yaml` says.
    """
    if Path(model).is_dir():
        return Path(model)
    from huggingface_hub import snapshot_download

    revision = pinned_revision(model, revision)
    if revision is None:
        event(
            log, "model_unpinned", model=model, todo="set its revision to a commit, so that a later run gets the same"
        )
    try:
        folder = Path(snapshot_download(model, revision=revision, allow_patterns=list(patterns)))
    except Exception as error:
        raise ConfigError(
            f"cannot get {model} (revision {revision or 'latest'}): {type(error).__name__}: {error}. It must be a "
            f"folder or a hub id; with no network, a filled HF_HOME. {access(model)}"
        ) from error
    check_files(model, folder)
    return folder


def access(model: str) -> str:
    """What to do to be let at a model's files."""
    known = published_models().get(model)
    if known is None or not known.gated:
        return "A gated model needs its licence accepted on its page and a token in HF_TOKEN"
    return (
        f"It is gated ({known.licence}): sign in, accept the licence at https://huggingface.co/{model}, make a token "
        "that may read gated repositories, and pass it as HF_TOKEN (on a cluster: key token of secret synthio-hub)"
    )


def check_files(model: str, folder: Path) -> None:
    """Compare files with the hashes of `models.yaml`, and weights with the name that the hub files them under.

    Raises:
        DataError: a file is missing or another one.
    """
    known = published_models().get(model)
    for name, expected in (known.sha256 if known else {}).items():
        if not (folder / name).is_file() or hash_file(folder / name) != expected:
            raise DataError(f"{folder / name} is missing or not the file with sha256 {expected}: check the revision")
    for file in sorted(folder.rglob("*.safetensors")):
        # The hub's cache links each file to its content, and names that of a large one by its SHA-256.
        content = file.resolve()
        if _SHA256.fullmatch(content.name) and hash_file(content) != content.name:
            raise DataError(f"{file} is damaged: its content is not {content.name}; delete {content} and run again")


def cached(model: str, revision: str | None) -> bool:
    """Whether any of a hub id's files at its commit are on this machine; looks at nothing else."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        snapshot_download(model, revision=pinned_revision(model, revision), local_files_only=True)
    except (LocalEntryNotFoundError, OSError, ValueError):
        return False
    return True


def named_models(config: RunConfig) -> dict[str, str | None]:
    """The hub ids that a run loads, with the commits that its settings ask for."""
    corpus, t2a, captions = config.prepare_corpus, config.pretrain_t2a, config.caption_clips
    named: dict[str, str | None] = {}
    if corpus.source != "none":
        named |= {corpus.vae: corpus.vae_revision, corpus.tokenizer: corpus.tokenizer_revision}
    if t2a.reuse is None:
        named[t2a.start] = t2a.revision
        if t2a.start == "random":
            named[t2a.text_encoder.start] = t2a.text_encoder.revision
    for judge in (config.pretrain_clap, config.pretrain_classifier):
        if judge.checkpoint is not None:
            named[judge.checkpoint] = judge.revision
    if captions.backend == "audio_llm":
        named[captions.audio_llm.checkpoint.model] = captions.audio_llm.checkpoint.revision
    for writer in (config.augment_captions.writer, config.revise_captions.writer):
        if writer.backend == "chat_model":
            named[writer.chat_model.checkpoint.model] = writer.chat_model.checkpoint.revision
    # Hub ids hold a slash; "random", "spectral" and "embedded" are no models.
    return {name: revision for name, revision in named.items() if "/" in name and is_published(name)}


def unpinned(config: RunConfig) -> list[str]:
    """The hub ids of a run whose commit is not known."""
    return [name for name, revision in named_models(config).items() if pinned_revision(name, revision) is None]


def check_pinned(config: RunConfig) -> None:
    """Warn of models without a known commit.

    Raises:
        ConfigError: there are some, and the run asks for `require_pinned`.
    """
    for name in unpinned(config):
        if config.require_pinned:
            raise ConfigError(f"{name} has no known commit, and require_pinned is true: set its revision to one")
        event(log, "model_unpinned", model=name, todo="set its revision to a commit, so that a later run gets the same")


def describe(config: RunConfig) -> list[str]:
    """One line on each published model of a run: commit, licence, whether it is here, what to do."""
    lines = []
    for name, asked in sorted(named_models(config).items()):
        known, revision = published_models().get(name), pinned_revision(name, asked)
        here = cached(name, asked)
        parts = [
            f"commit {revision[:12]}" if revision else "unpinned: set its revision",
            f"{known.licence} ({known.restrictions})" if known else "licence: see its page",
            "in the local cache" if here else "not in the local cache: it is downloaded at its first use",
        ]
        if not here and known is not None and known.gated:
            parts.append(access(name))
        lines.append(f"{name}: {'; '.join(parts)}")
    return lines
