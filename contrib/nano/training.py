"""Training of the models in `models/nano`, and their export: weights in float16, records for `common.models.shipped`.

The stages of the pipeline do the work, each with its own store of finished items and checkpoints below the work folder,
so that a killed training goes on. Parts can be trained side by side in processes of their own.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from common.config.base import Frozen
from common.config.clap import PretrainClapConfig
from common.config.classifier import PretrainClassifierConfig
from common.config.corpus import PrepareCorpusConfig
from common.config.run import validated, with_overrides
from common.config.t2a import PretrainT2AConfig
from common.diffusion.backend import PLACE
from common.errors import unknown_name
from common.models.concepts import CONCEPTS
from common.models.files import ModelFile, fits
from common.storage import publish_dir, read_json, write_json, write_text
from common.storage.hashing import hash_file, hash_json
from components.prepare_corpus.run import run as prepare_corpus
from components.pretrain_clap.run import run as pretrain_clap
from components.pretrain_classifier.run import run as pretrain_classifier
from components.pretrain_t2a.run import run as pretrain_t2a
from contrib.nano.corpus import CAPTIONS, SHARDS
from contrib.nano.text_encoder import NanoTextConfig
from contrib.nano.text_encoder import run as train_text_encoder
from pipelines.sources import code_version

SETTINGS = Path(__file__).with_name("settings.yaml")
NAME = "nano"


class NanoSettings(Frozen):
    """Settings of the stages that make the models."""

    seed: int
    prepare_corpus: PrepareCorpusConfig
    pretrain_clap: PretrainClapConfig
    pretrain_classifier: PretrainClassifierConfig
    text_encoder: NanoTextConfig
    pretrain_t2a: PretrainT2AConfig


@dataclass(frozen=True)
class Part:
    """One of the models.

    Attributes:
        output: of the stage, the argument that names it.
        reads: arguments of its inputs and the parts that make them.
        files: patterns of what is exported.
        exact: patterns of weights that stay in float32.
    """

    settings: str
    run: Callable[..., dict[str, Any]]
    output: str
    reads: dict[str, str]
    files: tuple[str, ...]
    exact: tuple[str, ...] = ()

    @property
    def stage(self) -> str:
        """The stage whose code makes it."""
        return "pretrain_t2a" if self.settings == "text_encoder" else self.settings


CORPUS, TEXT, T2A = "corpus", "text", "t2a"
MODEL_FILES = ("*.json", "*.txt", "*.safetensors")
PARTS = {
    CORPUS: Part("prepare_corpus", prepare_corpus, "corpus_path", {}, ()),
    "clap": Part("pretrain_clap", pretrain_clap, "clap_path", {"corpus_path": CORPUS}, MODEL_FILES),
    "encoder": Part(
        "pretrain_classifier", pretrain_classifier, "classifier_path", {"corpus_path": CORPUS}, MODEL_FILES
    ),
    TEXT: Part("text_encoder", train_text_encoder, "text_path", {"corpus_path": CORPUS}, ()),
    # The codec has to be the corpus's to the bit when training goes on.
    T2A: Part("pretrain_t2a", pretrain_t2a, "t2a_path", {"corpus_path": CORPUS}, MODEL_FILES, ("vae/*",)),
}
"""By name; a part comes after those that it reads."""
LEFT_OUT = ("training.json", "monitor/*", "*SHA256SUMS")


def load_settings(overrides: str = "") -> NanoSettings:
    """Settings of `settings.yaml` with `overrides` applied, as in `common.config.run.with_overrides`.

    Raises ConfigError: an unknown field, or a bad value.
    """
    values = yaml.safe_load(SETTINGS.read_text(encoding="utf-8"))
    return with_overrides(validated(NanoSettings, values, str(SETTINGS)), overrides)


def train(corpus: Path, work: Path, names: Sequence[str], settings: NanoSettings) -> None:
    """Make parts below `work`, each in a folder of its name; finished ones are found in the store.

    Args:
        names: of parts; those that they read are made too.

    Raises:
        ConfigError: a part is unknown.
        DataError: the corpus cannot be read.
    """
    for name in names:
        if name not in PARTS:
            raise unknown_name("part", name, PARTS)
    wanted = {CORPUS, *names} | ({TEXT} if T2A in names else set())
    place = {"audio_dir": str((corpus / SHARDS).resolve()), "captions_file": str((corpus / CAPTIONS).resolve())}
    for name, part in PARTS.items():
        if name not in wanted:
            continue
        own: Any = getattr(settings, part.settings).model_copy(update=place if name == CORPUS else {})
        if name == T2A:
            text = own.text_encoder.model_copy(update={"start": str((work / TEXT).resolve())})
            own = own.model_copy(update={"text_encoder": text})
        config = {"settings": own.model_dump(mode="json"), "seed": settings.seed}
        made_of, target = hash_json([config, code_version(part.stage)]), work / name
        record = work / f"{name}.made-of"
        if target.is_dir() and record.is_file() and record.read_text(encoding="utf-8") == made_of:
            # Another process may be reading it.
            continue
        shutil.rmtree(target, ignore_errors=True)
        part.run(
            **{argument: str(work / source) for argument, source in part.reads.items()},
            **{part.output: str(target)},
            metrics_path=str(_metrics(work, name)),
            config=config,
            code_version=code_version(part.stage),
        )
        write_text(record, made_of)


def _metrics(work: Path, name: str) -> Path:
    return work / f"{name}-metrics.json"


def export(work: Path, models: Path, records: Path, names: Sequence[str]) -> None:
    """Publish trained parts below `models/nano`, with their figures, and rewrite their records.

    Args:
        records: `records.yaml` of `common.models.shipped`.
    """
    known = yaml.safe_load(records.read_text(encoding="utf-8")) or {} if records.is_file() else {}
    for name in names:
        if not PARTS[name].files:
            continue
        target = models / NAME / name
        shutil.rmtree(target, ignore_errors=True)
        with publish_dir(target) as made:
            if name == T2A:
                write_json(work / name / CONCEPTS, read_json(work / CORPUS / "manifest.json")["labels"])
            files = _copied(work / name, made, PARTS[name])
        known[f"{NAME}/{name}"] = {"revision": hash_json(files)[:12], "files": files}
        figures = read_json(_metrics(work, name))
        write_json(models / NAME / f"{name}.json", {"figures": figures})
    write_text(records, yaml.safe_dump(known, sort_keys=True))


def _copied(source: Path, target: Path, part: Part) -> dict[str, dict[str, Any]]:
    from safetensors import safe_open
    from safetensors.torch import save_file

    found: dict[str, dict[str, Any]] = {}
    for path in sorted(path for path in source.rglob("*") if path.is_file()):
        name = path.relative_to(source).as_posix()
        if not fits(name, part.files) or fits(name, LEFT_OUT):
            continue
        made = target / name
        made.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".safetensors" and not fits(name, part.exact):
            with safe_open(path, "pt") as opened:
                tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
                metadata = opened.metadata()
            save_file({k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}, made, metadata)
        else:
            shutil.copyfile(path, made)
        if path.suffix == ".json" and PLACE in (told := read_json(path)):
            write_json(made, {key: value for key, value in told.items() if key != PLACE})
        made.chmod(0o644)  # safetensors writes for the owner alone, and images run as another user
        found[name] = ModelFile(bytes=made.stat().st_size, sha256=hash_file(made)).model_dump(exclude_none=True)
    return found
