"""The idea of the stage: resolve a preset, a dataset and methods to the settings of every stage, once per run.

Each stage receives a plan: its section of the preset plus run-level fields such as replicates and recipes. Read next:
`run.py` (loads preset and dataset, checks licences and budget), `common/config/methods.py` (methods and recipes),
`common/config/run.py` (presets).
"""

from typing import Any

from common.config.base import Plan, to_wire
from common.config.dataset import DatasetSpec
from common.config.evaluation import ReportPlan
from common.config.methods import Method, resolve_recipes
from common.config.recipes import LOSERS
from common.config.run import RunConfig
from common.datasets.registry import corpus_id_files
from common.errors import ConfigError
from common.models.licences import licensed_parts
from common.models.registry import heard_before

PLANS: dict[str, type[Plan]] = {
    section: plan
    for section, field in RunConfig.model_fields.items()
    for plan in Plan.__subclasses__()
    if "settings" in plan.model_fields and plan.model_fields["settings"].annotation is field.annotation
} | {"report": ReportPlan}
"""Plan type of each stage, whose settings are a section of `RunConfig`; in the order of the outputs of `plan`."""


def resolve(
    config: RunConfig,
    dataset: DatasetSpec,
    n: int,
    methods: dict[str, Method],
    seeds: int,
    asked: dict[str, Any],
    data_version: str = "",
) -> dict[str, dict[str, Any]]:
    """The `config` of every stage, by stage name.

    Args:
        n: number of training clips; 0 = the dataset's default.
        methods: in the order of the report.
        asked: the user's request, for the report.
        data_version: hash of the dataset's files; `prepare_dataset` gets it, so that changed files are read again.

    Raises ConfigError: `n` or `seeds` is out of range, or the pretraining corpus lacks what the run needs.
    """
    if seeds < 1:
        raise ConfigError(f"seeds is {seeds}; expected at least 1 replicate, better 3 or more")
    if n < 0:
        raise ConfigError(f"n is {n}; expected the number of training clips, or 0 for the dataset's default")
    check_corpus(config, methods)
    replicates = tuple(range(config.seed, config.seed + seeds))
    recipes = resolve_recipes(methods)
    alignments = tuple(sorted({recipe.alignment for recipe in recipes} - {"none"}))
    retrieved = [clips for each in methods.values() if each.recipe and (clips := each.recipe.corpus_clips)]
    vanilla = any(method.recipe == LOSERS for method in methods.values())
    most = max(config.augmentation_factors)
    templates = max(config.losers_per_clip if alignments else 0, most if vanilla else 0)
    # Stages whose work only generated clips use have nothing to do in a run without them.
    generating = replicates if recipes else ()
    generates = bool(recipes) or vanilla
    latents = generates and config.pretrain_t2a.trains
    # Only external corpora can overlap a dataset; leaving this empty keeps the others cacheable across datasets.
    external = config.prepare_corpus.source in ("folder", "tar")
    # Each plan takes the fields that it names; `scope` only says where work is kept and does not affect the results.
    run_level: dict[str, object] = {
        "scope": config.scope,
        "seed": config.seed,
        "dataset": dataset,
        "domain": dataset.domain,
        "n": n or dataset.n,
        "data_version": data_version,
        "excluded_ids_files": corpus_id_files(dataset) if external else (),
        "replicates": replicates,
        "methods": methods,
        "recipes": recipes,
        "rounds": config.rounds,
        "wanted": generates,
        "latents": latents,
        "clips_per_gold": most,
        "template_clips_per_gold": templates,
        "alignments": alignments,
        "losers_per_clip": config.losers_per_clip,
        "augmentation_factor": most,
        "augmentation_factors": config.augmentation_factors,
        "surplus": config.filter_audio.surplus,
        "keep": config.filter_audio.keep if config.filter_audio.surplus > 1 else None,
        "use": config.use,
        "licences": licensed_parts(config, dataset),
        "heard": heard_before(config, dataset),
        "near_duplicate_cosine": config.evaluate_classifier.near_duplicate_cosine,
        "near_duplicate_correlation": config.evaluate_classifier.near_duplicate_correlation,
        "neighbours_checked": config.evaluate_classifier.neighbours_checked,
    }
    own: dict[str, dict[str, object]] = {
        "prepare_corpus": {"wanted": bool(_corpus_users(config, methods)) or latents},
        "finetune_clap": {"replicates": generating},
        "retrieve_audio": {"recipes": tuple(dict.fromkeys(retrieved))},
        "caption_clips": {"replicates": generating},
        "augment_captions": {"replicates": generating},
        "report": {**asked, "run_config": config.model_dump(mode="json", exclude={"scope"}, exclude_defaults=True)},
    }
    made = {}
    for stage, kind in PLANS.items():
        fields = {name: value for name, value in run_level.items() if name in kind.model_fields}
        settings = {"settings": getattr(config, stage)} if stage in RunConfig.model_fields else {}
        made[stage] = to_wire(kind(**fields | settings | own.get(stage, {})).model_dump(mode="json"))
    return made


def _corpus_users(config: RunConfig, methods: dict[str, Method]) -> dict[str, str]:
    """What needs audio of the pretraining corpus, and what to do where there is none."""
    judges = [name for name in ("pretrain_clap", "pretrain_classifier") if getattr(config, name).optim is not None]
    trained = {name: f"name a checkpoint and set {name}.optim=null" for name in judges}
    return trained | {f"method {name}": "leave it out" for name, each in methods.items() if each.takes_corpus}


def check_corpus(config: RunConfig, methods: dict[str, Method]) -> None:
    """Raise ConfigError for a run whose pretraining corpus is not named or lacks what the run needs."""
    corpus, users = config.prepare_corpus, _corpus_users(config, methods)
    if corpus.source in ("folder", "tar") and not (corpus.audio_dir and corpus.captions_file):
        raise ConfigError(
            "this run takes captioned audio of your own: name it with OVERRIDES='prepare_corpus.audio_dir=/data "
            "prepare_corpus.captions_file=/data/captions.csv' (columns file, caption), or choose another preset"
        )
    if corpus.source == "none" and config.pretrain_t2a.trains:
        raise ConfigError(
            "pretrain_t2a trains on the pretraining corpus, and prepare_corpus.source is none: set source, or take a "
            "published model as it is (pretrain_t2a.start names it, pretrain_t2a.optim=null)"
        )
    if users and (corpus.source == "none" or not corpus.keep_audio):
        user, instead = next(iter(users.items()))
        raise ConfigError(
            f"{user} takes clips from the pretraining corpus, and this run has none with audio: {instead}, or set "
            "prepare_corpus.source, and prepare_corpus.keep_audio=true"
        )
