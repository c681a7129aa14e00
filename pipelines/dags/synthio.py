"""Synthio DAG: from a small labelled dataset to a trained classifier and a report.

This file shows which stage reads what; each stage's idea is in `components/<stage>`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from kfp import dsl
from kfp.dsl import Dataset, Input, Model

from common.config.recipes import MAX_ROUNDS
from components.align_t2a.component import align_t2a
from components.augment_captions.component import augment_captions
from components.caption_clips.component import caption_clips
from components.catalogue import STAGES
from components.evaluate_classifier.component import evaluate_classifier
from components.filter_audio.component import filter_audio
from components.finetune_clap.component import finetune_clap
from components.plan.component import plan
from components.prepare_corpus.component import prepare_corpus
from components.prepare_dataset.component import prepare_dataset
from components.pretrain_clap.component import pretrain_clap
from components.pretrain_classifier.component import pretrain_classifier
from components.pretrain_t2a.component import pretrain_t2a
from components.report.component import report
from components.retrieve_audio.component import retrieve_audio
from components.revise_captions.component import revise_captions
from components.synthesize_audio.component import synthesize_audio
from components.train_classifier.component import train_classifier
from pipelines.cluster.placement import Profile, place
from pipelines.sources import code_version


class Outputs(NamedTuple):
    """Output artifacts of a run."""

    results: Dataset
    classifier: Model
    synthetic: Dataset
    t2a: Model
    aligned: Model


class Round(NamedTuple):
    """Outputs of a round: the clips accepted so far, the clips it rejected, and its prompts."""

    accepted: Dataset
    rejected: Dataset
    prompts: Dataset


def placed(profile: Profile) -> Callable[..., Any]:
    """Return `stage(component, **inputs)`, which makes a task with code version and title, placed by `profile`."""

    def stage(component: Any, **inputs: Any) -> Any:
        name = component.name.replace("-", "_")
        task = component(**inputs, code_version=code_version(name)).set_display_name(STAGES[name])
        return place(task, name, profile)

    return stage


def reflection_round(profile: Profile) -> Any:
    """Build one round of self-reflection as a nested pipeline."""
    stage = placed(profile)

    @dsl.pipeline(name="self-reflection-round")
    def self_reflection_round(
        t2a: Input[Model],
        aligned: Input[Model],
        gold: Input[Dataset],
        clap: Input[Model],
        captions: Input[Dataset],
        previous: Input[Dataset],
        accepted: Input[Dataset],
        rejected: Input[Dataset],
        revise_config: dict,
        synthesize_config: dict,
        filter_config: dict,
        round: int,
    ) -> Round:
        """Revise the captions of rejected clips, generate clips from them, and filter the new clips."""
        prompts = stage(
            revise_captions,
            gold=gold,
            captions=captions,
            previous=previous,
            accepted=accepted,
            rejected=rejected,
            config=revise_config,
            round=round,
        ).outputs["prompts"]
        synthetic = stage(
            synthesize_audio, t2a=t2a, aligned=aligned, gold=gold, prompts=prompts, config=synthesize_config
        ).outputs["synthetic"]
        filtered = stage(
            filter_audio, synthetic=synthetic, gold=gold, clap=clap, previous=accepted, config=filter_config
        ).outputs
        return Round(filtered["accepted"], filtered["rejected"], prompts)

    return self_reflection_round


def synthio_pipeline(profile: Profile) -> Any:
    """Build the whole pipeline with tasks placed by `profile`."""
    stage, self_reflection_round = placed(profile), reflection_round(profile)

    @dsl.pipeline(
        name="synthio", description="Synthetic audio for a small labelled dataset, with proof (arXiv 2410.02056)."
    )
    def synthio(
        dataset: str = "demo",
        preset: str = "tiny",
        n: int = 0,
        methods: str = "",
        seeds: int = 3,
        reuse_t2a_from: str = "",
        llm_endpoint: str = "",
        budget: float = 0.0,
        overrides: str = "",
        data_version: str = "",
    ) -> Outputs:
        """Train a better classifier from a small labelled audio dataset, with the help of synthetic audio.

        Args:
            dataset: a registered name, the s3:// address of a dataset YAML, or a dataset as inline YAML.
            preset: tiny (CPU), small (one GPU) or paper (real checkpoints).
            n: number of training clips; 0 = the dataset's default.
            methods: comma-separated methods; empty = the preset's.
            seeds: number of replicates.
            reuse_t2a_from: text-to-audio model of an earlier run, a folder or s3:// address; empty = train one.
            llm_endpoint: address of an OpenAI-compatible server that writes the captions, such as
                http://synthio-llm:8000/v1; empty = the preset's writer.
            budget: US dollars that the run may cost by estimate; 0 = no limit.
            overrides: space-separated section.field=value pairs.
            data_version: hash of the dataset's files, so that changed files are read again; the command line fills it.
        """
        config: dict[str, Any] = stage(
            plan,
            dataset=dataset,
            preset=preset,
            n=n,
            methods=methods,
            seeds=seeds,
            reuse_t2a_from=reuse_t2a_from,
            llm_endpoint=llm_endpoint,
            budget=budget,
            overrides=overrides,
            data_version=data_version,
        ).outputs

        def made(component: Any, **inputs: Any) -> Any:
            """Outputs of a stage with its own settings."""
            return stage(component, **inputs, config=config[component.name.replace("-", "_")]).outputs

        corpus = made(prepare_corpus)["corpus"]
        clap = made(pretrain_clap, corpus=corpus)["clap"]
        t2a = made(pretrain_t2a, corpus=corpus, clap=clap)["t2a"]
        classifier = made(pretrain_classifier, corpus=corpus)["classifier"]
        data = made(prepare_dataset)
        gold = data["gold"]
        finetuned = made(finetune_clap, clap=clap, gold=gold)["finetuned"]
        retrieved = made(retrieve_audio, corpus=corpus, gold=gold, clap=clap)["retrieved"]
        captions = made(caption_clips, gold=gold)["captions"]
        losers = (
            stage(synthesize_audio, t2a=t2a, gold=gold, config=config["synthesize_audio"])
            .set_display_name("Generate clips before alignment")
            .outputs["synthetic"]
        )
        aligned = made(align_t2a, t2a=t2a, gold=gold, losers=losers)["aligned"]
        prompts = made(augment_captions, gold=gold, captions=captions)["prompts"]
        synthetic = made(synthesize_audio, t2a=t2a, aligned=aligned, gold=gold, prompts=prompts, retrieved=retrieved)[
            "synthetic"
        ]
        first = made(filter_audio, synthetic=synthetic, gold=gold, clap=finetuned)
        sets = {**first, "prompts": prompts}
        for number in range(1, MAX_ROUNDS + 1):
            sets = (
                self_reflection_round(
                    t2a=t2a,
                    aligned=aligned,
                    gold=gold,
                    clap=finetuned,
                    captions=captions,
                    previous=sets["prompts"],
                    accepted=sets["accepted"],
                    rejected=sets["rejected"],
                    revise_config=config["revise_captions"],
                    synthesize_config=config["synthesize_audio"],
                    filter_config=config["filter_audio"],
                    round=number,
                )
                .set_display_name(f"Self-reflection, round {number}")
                .outputs
            )
        trained = made(
            train_classifier,
            classifier=classifier,
            gold=gold,
            vanilla=losers,
            accepted=sets["accepted"],
            retrieved=retrieved,
            corpus=corpus,
            clap=clap,
        )["classifiers"]
        evaluated = made(
            evaluate_classifier,
            classifiers=trained,
            gold=gold,
            test=data["test"],
            vanilla=losers,
            accepted=sets["accepted"],
            retrieved=retrieved,
            clap=clap,
        )
        results = made(
            report,
            evaluation=evaluated["evaluation"],
            gold=gold,
            corpus=corpus,
            t2a=t2a,
            aligned=aligned,
            clap=finetuned,
            classifiers=trained,
            captions=captions,
            prompts=sets["prompts"],
            vanilla=losers,
            accepted=sets["accepted"],
            rejected=first["rejected"],
        )["results"]
        return Outputs(results, evaluated["classifier"], sets["accepted"], t2a, aligned)

    return synthio
