"""Published models: pinned commits, local availability, licences, and what they heard. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from pydantic import Field

from common.config.base import Frozen
from common.config.dataset import Heard, Learnt, PermittedUse
from common.errors import ConfigError, DataError
from common.models.files import ModelRecord, check, hub_cache, read_record, snapshot, stored_record, take
from common.models.shipped import shipped_folder, shipped_models
from common.storage import cache_root, open_store, whole_store

if TYPE_CHECKING:
    from common.config.dataset import DatasetSpec
    from common.config.run import RunConfig

MODELS_FILE = Path(__file__).parent / "models.yaml"
WEIGHTS = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")
"""Default file patterns of a repository not listed in `models.yaml`: weights, settings, tokenizers; never pickles."""


class Conversion(Frozen):
    """A pickle of weights that stands in for missing safetensors: `make fetch-models` converts it, and nothing else."""

    file: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    to: str = Field(default="model.safetensors", pattern=r"\.safetensors$")


class PublishedModel(Frozen):
    """One entry of `models.yaml`."""

    revision: str | None = Field(pattern="^[0-9a-f]{40}$", description="commit on the hub; null = not looked up")
    revision_seen: str = Field(description="where that commit stands")
    licence: str
    gated: bool = Field(description="whether the licence must be accepted on the model's page")
    restrictions: str
    use: PermittedUse | None = Field(default=None, description="the widest that the licence allows; null = not known")
    files: tuple[str, ...] = Field(default=WEIGHTS, description="patterns of what is fetched of the repository")
    sha256: dict[str, str] = Field(description="of files")
    trained_on: dict[str, Learnt] = Field(
        default={}, description="public collections of recordings, as its authors state, and what it was given of them"
    )
    convert: Conversion | None = Field(default=None, description="null = safetensors are published")

    @property
    def terms(self) -> str:
        """Licence and restrictions in words."""
        return f"{self.licence} ({self.restrictions})" if self.revision_seen else "licence: see its page"


_UNLISTED = PublishedModel(
    revision=None, revision_seen="", licence="not known", gated=False, restrictions="", sha256={}
)


@cache
def published_models() -> Mapping[str, PublishedModel]:
    """Entries of `models.yaml` by hub id."""
    entries = yaml.safe_load(MODELS_FILE.read_text(encoding="utf-8"))
    return {name: PublishedModel.model_validate(entry) for name, entry in entries.items()}


def listed(model: str) -> PublishedModel:
    """Entry of a hub id; of one that has none, what is taken for granted."""
    return published_models().get(model, _UNLISTED)


def pinned_revision(model: str, revision: str | None) -> str | None:
    """Commit of a model: `revision` if given, else that of `models.yaml`; None = unknown."""
    return revision or listed(model).revision


def pinned(model: str, revision: str | None) -> str:
    """Commit of a model, as `pinned_revision`. Raises ConfigError: it is unknown."""
    if (found := pinned_revision(model, revision)) is None:
        raise ConfigError(f"{model} has no known commit: set its revision to one, so that every run gets the same")
    return found


def is_published(name: str) -> bool:
    """Whether `name` is a hub id rather than a folder or a model that comes with the project."""
    return not Path(name).is_dir() and not name.startswith(("/", ".")) and name not in shipped_models()


def locate(model: str, revision: str | None, patterns: Sequence[str] = ("*",)) -> Path:
    """Folder of a model: `model` itself if it is a folder, else that of a shipped or fetched one, all files verified.

    Fetched ones are looked up in the cache of this machine (`HF_HOME`) and then in the run store, from which they are
    copied to `SYNTHIO_CACHE`. Nothing is read from the network; that is the task of `make fetch-models`.

    Args:
        model: folder, name of a model that comes with the project, or hub id.
        revision: commit of the hub id; None = the one in `models.yaml`.
        patterns: required files; others need not be present.

    Raises:
        ConfigError: the model was not fetched.
        DataError: a file differs from the fetched one, from the one in `models.yaml`, or from the shipped one.
    """
    if Path(model).is_dir():
        return Path(model)
    if model in shipped_models():
        return shipped_folder(model)
    commit = pinned_revision(model, revision)
    if commit is None or not is_published(model):
        raise ConfigError(
            f"{model} is no folder, and no commit of a hub id with that name is known: correct the folder, or set its "
            "revision to a commit"
        )
    if (record := read_record(hub_cache(), model, commit)) is not None:
        folder = snapshot(hub_cache(), model, commit)
    elif (store := whole_store()) is not None and (record := stored_record(store, model, commit)) is not None:
        folder = take(store, record, record.fitting(patterns), cache_root() / "models")
    else:
        raise ConfigError(
            f"{model} (commit {commit}) is neither in the cache {hub_cache()} nor in the run store: run make "
            "fetch-models with the same preset where there is a network, with HF_HOME or STORE naming a place that "
            f"this stage sees. {access(model)}"
        )
    if not (files := record.fitting(patterns)):
        raise ConfigError(f"{model} (commit {commit}) has none of {', '.join(patterns)}: it is another kind of model")
    check(folder, files)
    check_listed(record)
    return folder


def check_listed(record: ModelRecord) -> None:
    """Compare a record with the hashes of `models.yaml`. Raises DataError: a listed file is missing or differs."""
    if listed(record.model).revision != record.revision:
        return
    found = {name: file.sha256 for name, file in record.files.items()}
    found |= {file.made_from: str(file.made_from_sha256) for file in record.files.values() if file.made_from}
    check_hashes(record.model, found)


def check_hashes(model: str, found: Mapping[str, str], found_only: bool = False) -> None:
    """Compare SHA-256 by file with those in `models.yaml`. Raises DataError: a listed file is missing or differs."""
    convert = listed(model).convert
    for name, expected in (listed(model).sha256 | ({convert.file: convert.sha256} if convert else {})).items():
        if found.get(name) != expected and not (found_only and name not in found):
            raise DataError(
                f"{model}: {name} is {found.get(name, 'missing')}, models.yaml says {expected}: check the revision"
            )


def access(model: str) -> str:
    """Instruction for getting access to a model's files."""
    if not listed(model).gated:
        return "A gated model needs its licence accepted on its page and a token in HF_TOKEN"
    return (
        f"It is gated ({listed(model).licence}): sign in, accept the licence at https://huggingface.co/{model}, make a "
        "token that may read gated repositories, and pass it to make fetch-models as HF_TOKEN"
    )


def named_models(config: RunConfig) -> dict[str, str | None]:
    """Hub ids that a run loads, with the commits in its settings."""
    # Hub ids contain a slash; "random", "spectral" and "embedded" are not models.
    return {name: revision for name, revision in _loaded(config).items() if "/" in name and is_published(name)}


def licensed_models(config: RunConfig) -> list[str]:
    """Names of the models that a run loads, but for users' folders: hub ids, and those that come with the project."""
    return sorted({*named_models(config), *(name for name in _loaded(config) if name in shipped_models())})


def _loaded(config: RunConfig) -> dict[str, str | None]:
    """Hub ids and folders that a run loads, with the commits in its settings, and words that name no model."""
    corpus, t2a, captions = config.prepare_corpus, config.pretrain_t2a, config.caption_clips
    named: dict[str, str | None] = {}
    if corpus.source != "none" and t2a.trains:
        named |= {corpus.vae: corpus.vae_revision, corpus.tokenizer: corpus.tokenizer_revision}
    if t2a.reuse is None:
        named[t2a.start] = t2a.revision
        if t2a.start == "random":
            named[t2a.text_encoder.start] = t2a.text_encoder.revision
    for judge in (config.pretrain_clap, config.pretrain_classifier):
        if judge.checkpoint is not None:
            named[judge.checkpoint] = judge.revision
    named |= {each.checkpoint: each.revision for each in config.train_classifier.learners.encoders.values()}
    if captions.backend == "audio_llm":
        named[captions.audio_llm.checkpoint.model] = captions.audio_llm.checkpoint.revision
    for writer in (config.augment_captions.writer, config.revise_captions.writer):
        if writer.backend == "chat_model":
            named[writer.chat_model.checkpoint.model] = writer.chat_model.checkpoint.revision
    return named


def check_pinned(config: RunConfig) -> None:
    """Raise ConfigError for a model without a known commit, because another run could get other weights."""
    for name, asked in named_models(config).items():
        pinned(name, asked)


def missing_models(config: RunConfig, *places: str) -> list[str]:
    """One line per model of a run that is in none of the places, with the remedy.

    Args:
        places: stores (`s3://…`, `file://…`, folders), and "" for the cache of this machine, where folders are looked
            for too; default: that cache.

    Raises StorageError: a store does not respond.
    """
    places = places or ("",)
    lines = []
    if "" in places:
        folders = sorted(name for name in _loaded(config) if name.startswith(("/", ".")))
        lines = [f"{name} is no folder: correct it" for name in folders if not Path(name).is_dir()]
    for name, asked in sorted(named_models(config).items()):
        commit = pinned_revision(name, asked)
        if commit is None:
            lines.append(f"{name} has no known commit: correct the name, or set its revision to one")
        elif not any(_fetched(name, commit, place) for place in places):
            looked = " or ".join(place or str(hub_cache()) for place in places)
            more = "" if "" in places else f" STORE={places[0]}"
            lines.append(f"{name} (commit {commit[:12]}) is not in {looked}: make fetch-models PRESET=…{more}")
    return lines


def check_fetched(config: RunConfig, preset: str, overrides: str, *places: str) -> None:
    """Refuse a run whose models are not where its stages look for them, before anything is trained.

    Raises:
        ConfigError: one line that names what is missing and the command that fetches it, with `preset`, `overrides`.
        StorageError: a store does not respond.
    """
    if not (missing := missing_models(config, *places)):
        return
    gated = tuple(name for name in named_models(config) if listed(name).gated)
    token = "HF_TOKEN=… " if any(line.startswith(gated) for line in missing) else ""
    more = f" OVERRIDES='{overrides}'" if overrides.strip() else ""
    more += f" STORE={places[0]}" if places and "" not in places else ""
    told = "; ".join(line.partition(": make fetch")[0] for line in missing)
    if ": make fetch" in "".join(missing):
        told += f". Fetch models with: {token}make fetch-models PRESET={preset}{more}"
    raise ConfigError(f"nothing was started: {told}")


def check_shipped(config: RunConfig) -> None:
    """Verify the models of a run that come with the project. Raises DataError: a file is missing, cut or changed."""
    for name in sorted(_loaded(config).keys() & shipped_models().keys()):
        shipped_folder(name)


def _fetched(model: str, commit: str, root: str) -> bool:
    if root:
        return stored_record(open_store(root), model, commit) is not None
    record, folder = read_record(hub_cache(), model, commit), snapshot(hub_cache(), model, commit)
    return record is not None and all((folder / name).is_file() for name in record.files)


def describe(config: RunConfig) -> list[str]:
    """One line per published model of a run: commit, licence, whether it is in the local cache, remedy."""
    lines = []
    for name, asked in sorted(named_models(config).items()):
        revision = pinned_revision(name, asked)
        here = revision is not None and _fetched(name, revision, "")
        parts = [
            f"commit {revision[:12]}" if revision else "unpinned: set its revision",
            listed(name).terms,
            "in the local cache" if here else "not in the local cache: make fetch-models",
        ]
        if not here and listed(name).gated:
            parts.append(access(name))
        lines.append(f"{name}: {'; '.join(parts)}")
    return lines


def heard_before(config: RunConfig, dataset: DatasetSpec) -> tuple[Heard, ...]:
    """Pairs of a model of the run and a collection that both it and the dataset were made from, sorted."""
    found = []
    for name in licensed_models(config):
        for collection, what in listed(name).trained_on.items():
            if collection in dataset.recordings_of:
                found.append(Heard(model=name, collection=collection, what=what))
    return tuple(sorted(found, key=lambda each: (each.collection, each.model)))


def exposure_sentences(heard: Sequence[Heard], clips: int) -> list[str]:
    """One sentence a collection for readers of figures on so many test `clips`, all from the dataset's collections."""
    sentences = []
    for collection in dict.fromkeys(each.collection for each in heard):
        models = [f"{each.model} ({each.what})" for each in heard if each.collection == collection]
        sentences.append(
            f"All {clips} test clips come from {collection}, on which published models of this run were trained: "
            f"{', '.join(models)}. They may have heard these recordings, so every figure may flatter."
        )
    return sentences
