"""Check a dataset, and with KFP_HOST the cluster, and estimate the work before a run (`make doctor DATASET=…`)."""

import argparse
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from common.config.dataset import DatasetSpec
from common.config.methods import Method, resolve_methods
from common.config.run import RunConfig, load_preset, with_llm_endpoint
from common.datasets.listing import root_of
from common.datasets.registry import corpus_id_files, resolve_dataset
from common.errors import ConfigError, DataError, SynthioError
from common.models.concepts import Nearness, concepts_of, nearest
from common.models.licences import check_use
from common.models.registry import check_shipped, describe, missing_models
from common.study.cost_table import costs
from common.study.costs import count_work
from common.study.costs import estimate as cost_of_study
from components.plan.planning import check_corpus
from components.prepare_corpus.doctor import named_labels
from components.prepare_dataset.doctor import examine
from pipelines.cluster.api import Connection
from pipelines.cluster.doctor import Check, examine_cluster, verdict
from pipelines.cluster.placement import load_profile
from pipelines.commands.arguments import Wanted, check_writers, cluster_parameters, number
from pipelines.commands.printing import print_json

OPTIONS = {
    **{"--dataset": "demo", "--preset": "tiny", "--n": "", "--seeds": "3", "--methods": "", "--overrides": ""},
    **{"--llm-endpoint": "", "--profile": "", "--store": "", "--json": False},
}


def estimate(
    preset: str, config: RunConfig, methods: dict[str, Method], n_train: int, replicates: int, clip_s: float
) -> dict[str, Any]:
    """Work of a run with an empty store: clips at most, alignments and classifiers; hours and gigabytes if known."""
    counts = count_work(config, methods, n_train, replicates)
    work: dict[str, Any] = {"clips_generated_at_most": counts.at_most, "alignments": counts.alignments}
    work |= {"classifiers_trained": counts.trained + 1, "minutes": None, "memory_gb": None, "gpu": ""}
    if known := costs().presets.get(preset):
        cost = cost_of_study([n_train], preset, methods, replicates, clip_s=[clip_s], config=config)
        work |= {"minutes": round(60 * cost.hours, 1), "gpu": cost.gpu, "memory_gb": known.memory_gb}
    return work


def run(options: argparse.Namespace) -> int:
    """Print the findings as text or JSON; exit status 0 = ready to run, 1 = a problem was found.

    2 = the checks could not run.
    """
    config = with_llm_endpoint(load_preset(options.preset, options.overrides), options.llm_endpoint)
    methods = resolve_methods(options.methods, config.methods)
    spec = resolve_dataset(options.dataset)
    n, replicates = number("N", options.n or "0", 0), number("SEEDS", options.seeds, 1)
    connection = Connection.from_environment()
    data, checks = (None, []) if connection is None else _for_pods(Wanted(options.dataset, spec, n), options.store)
    found = examine(data or spec, config.prepare_dataset, n or spec.n)
    n_train = found.health.counts.get("train", n or spec.n or 0)
    work = estimate(options.preset, config, methods, n_train, replicates, spec.clip_s)
    models = describe(config)
    refused = _said(lambda: check_use(config, spec))
    problems = [refused, _said(lambda: check_corpus(config, methods))]
    broken = _said(lambda: check_shipped(config))
    if connection is None:
        # What a run on this machine would stop for: models, and the key of a paid caption writer.
        problems += missing_models(config, "", *([options.store] if options.store else []))
        problems += [broken, _said(lambda: check_writers(config, options.methods))]
    named, labelled = None, config.pretrain_classifier.optim is not None
    of_label = bool(found.health.classes) and any(method.of_label for method in methods.values())
    if of_label or labelled:
        try:
            classes, several = found.health.classes, sum(found.health.classes.values()) > found.health.clips
            ids = corpus_id_files(spec)
            heard = named_labels(config.prepare_corpus, list(classes), several, config.seed, ids, labelled)
            named = heard if of_label else None
        except (ConfigError, DataError) as error:
            problems.append(str(error))
    found = replace(found, problems=(*found.problems, *filter(None, problems)))
    profile = load_profile(options.profile or "one-gpu")
    if connection is not None:
        checks += examine_cluster(connection, profile, config, options.store)
    place, near = _place(data or spec), None if broken else _nearness(config, methods, found.health.classes)
    if options.json:
        told = {**found.to_dict(), "place": place, "use": config.use, "refused": refused, "models": models}
        told |= {"concepts": None if near is None else list(map(asdict, near))}
        told |= {"corpus": named and {"captions": named[0], "nearest": list(map(asdict, named[1]))}}
        told |= {"estimate": work, "cluster": list(map(asdict, checks))}
        print_json(told)
    else:
        print(found.to_text())
        print(f"  place      {place}")
        print(f"  use        declared: {config.use}; {refused or 'no licence forbids it'}")
        print("\n".join(["published models:", *(f"  {line}" for line in models or ["none"])]))
        if near:
            print(*_nearness_text(config.pretrain_t2a.start, near), sep="\n")
        if named:
            print(*_named_text(*named), sep="\n")
        if found.health.counts.get("train"):
            print(_estimate_text(options.preset, work))
        if checks:
            print("\n".join(["cluster:", *(f"  {check}" for check in checks), f"  {'verdict':<10} {verdict(checks)}"]))
    return 0 if found.ok and not any(check.state == "problem" for check in checks) else 1


def _for_pods(wanted: Wanted, store: str) -> tuple[DatasetSpec | None, list[Check]]:
    """The dataset in the store, if it is there, and whether the pods of a run can read what was named."""
    try:
        text = cluster_parameters(wanted, store)["dataset"]
    except SynthioError as error:
        return None, [Check("data", "problem", str(error))]
    if text == wanted.source:
        todo = "name the store with STORE=s3://bucket/prefix; a run's first task looks for it there"
        return None, [Check("data", "not checked", todo)]
    return resolve_dataset(text), [Check("data", "ok", "pods can read it")]


def _place(spec: DatasetSpec) -> str:
    if spec.reader == "procedural_demo":
        return "built in"
    return str(root_of(spec) if spec.native else spec.pushed or spec.labels or spec.audio)


def _nearness(config: RunConfig, methods: dict[str, Method], classes: dict[str, int]) -> list[Nearness] | None:
    """How near the classes are to what the text-to-audio model knows; None = not known, or it has nothing to do."""
    t2a = config.pretrain_t2a
    if t2a.reuse is not None or not any(method.synthetic for method in methods.values()):
        return None
    concepts = concepts_of(t2a.start)
    return None if concepts is None else [nearest(label, concepts) for label in classes]


def _nearness_text(model: str, near: list[Nearness]) -> list[str]:
    unknown = [each for each in near if each.shared < 1]
    nothing = "nothing like it by name; clips of it will hardly sound right"
    return [
        f"concepts: {model} was trained on {len(near) - len(unknown)} of {len(near)} classes by name",
        *_nearest(unknown, nothing),
    ]


def _named_text(counts: dict[str, int], near: list[Nearness]) -> list[str]:
    held = ", ".join(f"{label} {count}" for label, count in counts.items() if count)
    told = f": {held}" if held else "; methods that take its clips by label are left out"
    first = f"corpus: its captions name {len(counts) - len(near)} of {len(counts)} classes{told}"
    return [first, *_nearest(near, "no caption shares a word with it")]


def _nearest(near: list[Nearness], nothing: str) -> list[str]:
    said = {each.label: f"nearest is {each.concept} ({each.shared:.0%} of the words)" for each in near if each.concept}
    # A label of the clip goes before its caption, and clips of several labels are not taken for one.
    whole = "named only by clips that have another label too, such as"
    said |= {each.label: f"{whole} {each.concept}" for each in near if each.shared == 1}
    return [f"  {each.label}: {said.get(each.label, nothing)}" for each in near]


def _said(check: Callable[[], None]) -> str | None:
    """What a check refuses with; None = nothing."""
    try:
        check()
    except (ConfigError, DataError) as error:
        return str(error)
    return None


def _estimate_text(preset: str, work: dict[str, Any]) -> str:
    counted = (
        f"{work['alignments']} alignments, at most {work['clips_generated_at_most']} clips to generate, "
        f"{work['classifiers_trained']} classifiers to train"
    )
    if work["minutes"] is None:
        return f"estimate for preset {preset}: {counted}; time and memory of this preset were not measured"
    memory = "" if work["memory_gb"] is None else f" and {work['memory_gb']:g} GB"
    cost = f"about {work['minutes']} minutes{memory} on {'one ' + work['gpu'] if work['gpu'] else 'two CPU cores'}"
    return f"estimate for preset {preset}: {counted}; {cost}"
