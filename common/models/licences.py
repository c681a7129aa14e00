"""Check of the licences of a run's parts against the run's declared use. Free of torch."""

from typing import get_args

from common.config.dataset import DatasetSpec, DeclaredUse, LicensedPart, PermittedUse
from common.config.run import RunConfig
from common.errors import ConfigError
from common.log import event, get_logger
from common.models.registry import licensed_models, listed

log = get_logger("licences")


def licensed_parts(config: RunConfig, dataset: DatasetSpec | None = None) -> tuple[LicensedPart, ...]:
    """The dataset, if it is given, and the models of a run, with their licences."""
    parts = []
    if dataset is not None:
        stated = dataset.licence != DatasetSpec.model_fields["licence"].default
        use = dataset.use if stated else None
        parts.append(LicensedPart(name=dataset.name, kind="dataset", licence=dataset.licence, use=use))
    encoders = {each.checkpoint for each in config.train_classifier.learners.encoders.values()}
    for name in licensed_models(config):
        known = listed(name)
        parts.append(
            LicensedPart(
                name=name,
                kind="classifier" if name in {config.pretrain_classifier.checkpoint, *encoders} else "generation",
                licence=known.licence,
                use=known.use,
                conditions=known.restrictions,
            )
        )
    return tuple(parts)


def permits(permitted: PermittedUse | None, declared: DeclaredUse) -> bool:
    """Whether a licence permits a use; an unknown licence permits all but commercial use."""
    if permitted is None:
        return declared != "commercial"
    return get_args(PermittedUse).index(permitted) >= get_args(DeclaredUse).index(declared)


def check_use(config: RunConfig, dataset: DatasetSpec | None = None) -> None:
    """Refuse a run whose declared use a licence forbids; log the parts whose licence is not known.

    Raises ConfigError: the message names each such part and the remedy.
    """
    parts = licensed_parts(config, dataset)
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
