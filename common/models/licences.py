"""Check of the licences of a run's parts against the run's declared use. Free of torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from common.config.dataset import DatasetSpec, DeclaredUse, LicensedPart, PermittedUse
from common.config.run import RunConfig
from common.errors import ConfigError
from common.log import event, get_logger
from common.models.registry import licensed_models, published_models

log = get_logger("licences")


def licensed_parts(config: RunConfig, dataset: DatasetSpec) -> tuple[LicensedPart, ...]:
    """The dataset and the models of a run, with their licences."""
    stated = dataset.licence != DatasetSpec.model_fields["licence"].default
    use = dataset.use if stated else None
    return (LicensedPart(name=dataset.name, kind="dataset", licence=dataset.licence, use=use), *_models(config))


def _models(config: RunConfig) -> tuple[LicensedPart, ...]:
    heard_through = {each.checkpoint for each in config.train_classifier.learners.encoders.values()}
    parts = []
    for name in licensed_models(config):
        known = published_models().get(name)
        parts.append(
            LicensedPart(
                name=name,
                kind="classifier" if name in {config.pretrain_classifier.checkpoint, *heard_through} else "generation",
                licence=known.licence if known else "not known",
                use=known.use if known else None,
                conditions=known.restrictions if known else "",
            )
        )
    return tuple(parts)


def permits(permitted: PermittedUse | None, declared: DeclaredUse) -> bool:
    """Whether a licence permits a use; an unknown licence permits all but commercial use."""
    if permitted is None:
        return declared != "commercial"
    return get_args(PermittedUse).index(permitted) >= get_args(DeclaredUse).index(declared)


def check_use(config: RunConfig, dataset: DatasetSpec) -> None:
    """Refuse a run whose declared use a licence forbids; log the parts whose licence is not known.

    Raises ConfigError: the message names each such part and the remedy.
    """
    _check(licensed_parts(config, dataset), config)


def check_models_use(config: RunConfig) -> None:
    """As `check_use`, of the published models alone.

    Raises ConfigError: the message names each such model and the remedy.
    """
    _check(_models(config), config)


def _check(parts: Sequence[LicensedPart], config: RunConfig) -> None:
    forbidden = [part for part in parts if not permits(part.use, config.use)]
    if forbidden:
        raise ConfigError(
            f"the run is declared for {config.use} use, which is not allowed by "
            + "; by ".join(_described(part) for part in forbidden)
            + ". Replace it, declare what the run is for (OVERRIDES='use=research' or use=non-commercial), or correct "
            "`use:` in the dataset file or in common/models/models.yaml where the licence allows more"
        )
    for part in parts:
        if part.use is None:
            event(log, "licence_unknown", name=part.name, kind=part.kind, declared_use=config.use)


def _described(part: LicensedPart) -> str:
    allowed = {
        None: "what it allows is not known",
        "research": "research only",
        "non-commercial": "non-commercial use only",
        "any": "any use",
    }
    kind = "dataset" if part.kind == "dataset" else "model"
    return f"the licence of {kind} {part.name} ({part.licence}: {allowed[part.use]})"
