"""The Synthio DAG: from a small labelled dataset to a report."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import Dataset, Input, Model

from common.rounds import MAX_ROUNDS
from components.align_t2a.component import align_t2a
from components.augment_captions.component import augment_captions
from components.caption_clips.component import caption_clips
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
from components.revise_captions.component import revise_captions
from components.synthesize_audio.component import synthesize_audio
from components.train_classifier.component import train_classifier
from pipelines.code_version import code_version


class Outputs(NamedTuple):
    """What a run leaves behind."""

    results: Dataset
    classifier: Model
    synthetic: Dataset
    t2a: Model
    aligned: Model


class Round(NamedTuple):
    """The clips of a round and all before it, and those that it rejected."""

    accepted: Dataset
    rejected: Dataset


@dsl.pipeline(name="self-reflection-round")
def reflection_round(
    t2a: Input[Model],
    aligned: Input[Model],
    gold: Input[Dataset],
    clap: Input[Model],
    captions: Input[Dataset],
    accepted: Input[Dataset],
    rejected: Input[Dataset],
    revise_config: dict,
    synthesize_config: dict,
    filter_config: dict,
    round: int,
) -> Round:
    """Revise the captions of rejected clips, generate them again, filter them again."""
    revised = revise_captions(
        gold=gold,
        captions=captions,
        accepted=accepted,
        rejected=rejected,
        config=revise_config,
        round=round,
        code_version=code_version("revise_captions"),
    )
    synthetic = synthesize_audio(
        t2a=t2a,
        aligned=aligned,
        gold=gold,
        prompts=revised.outputs["prompts"],
        config=synthesize_config,
        code_version=code_version("synthesize_audio"),
    )
    filtered = filter_audio(
        synthetic=synthetic.outputs["synthetic"],
        gold=gold,
        clap=clap,
        previous=accepted,
        config=filter_config,
        code_version=code_version("filter_audio"),
    )
    return Round(filtered.outputs["accepted"], filtered.outputs["rejected"])


@dsl.pipeline(
    name="synthio", description="Synthetic audio for a small labelled dataset, with proof (arXiv 2410.02056)."
)
def synthio(
    dataset: str = "demo",
    preset: str = "tiny",
    n: int = 0,
    methods: str = "",
    seeds: int = 3,
    overrides: str = "",
    data_version: str = "",
) -> Outputs:
    """Make a better classifier from a small labelled audio dataset.

    Args:
        dataset: a registered name, or a dataset as inline YAML.
        preset: tiny (CPU), small (one GPU) or paper (real checkpoints).
        n: number of training clips; 0 = the dataset's default.
        methods: comma-separated methods; empty = the default six.
        seeds: number of replicates.
        overrides: space-separated section.field=value pairs.
        data_version: hash of the dataset's files; filled in by the command line.
    """
    planned = plan(
        dataset=dataset,
        preset=preset,
        n=n,
        methods=methods,
        seeds=seeds,
        overrides=overrides,
        data_version=data_version,
        code_version=code_version("plan"),
    ).outputs
    corpus = prepare_corpus(config=planned["prepare_corpus"], code_version=code_version("prepare_corpus")).outputs[
        "corpus"
    ]
    t2a = pretrain_t2a(
        corpus=corpus, config=planned["pretrain_t2a"], code_version=code_version("pretrain_t2a")
    ).outputs["t2a"]
    clap = pretrain_clap(
        corpus=corpus, config=planned["pretrain_clap"], code_version=code_version("pretrain_clap")
    ).outputs["clap"]
    classifier = pretrain_classifier(
        corpus=corpus, config=planned["pretrain_classifier"], code_version=code_version("pretrain_classifier")
    ).outputs["classifier"]
    data = prepare_dataset(config=planned["prepare_dataset"], code_version=code_version("prepare_dataset")).outputs
    finetuned = finetune_clap(
        clap=clap, gold=data["gold"], config=planned["finetune_clap"], code_version=code_version("finetune_clap")
    ).outputs["finetuned"]
    captions = caption_clips(
        gold=data["gold"], config=planned["caption_clips"], code_version=code_version("caption_clips")
    ).outputs["captions"]
    losers = (
        synthesize_audio(
            t2a=t2a,
            gold=data["gold"],
            config=planned["synthesize_audio"],
            code_version=code_version("synthesize_audio"),
        )
        .set_display_name("synthesize-losers")
        .outputs["synthetic"]
    )
    aligned = align_t2a(
        t2a=t2a, gold=data["gold"], losers=losers, config=planned["align_t2a"], code_version=code_version("align_t2a")
    ).outputs["aligned"]
    prompts = augment_captions(
        gold=data["gold"],
        captions=captions,
        config=planned["augment_captions"],
        code_version=code_version("augment_captions"),
    ).outputs["prompts"]
    synthetic = synthesize_audio(
        t2a=t2a,
        aligned=aligned,
        gold=data["gold"],
        prompts=prompts,
        config=planned["synthesize_audio"],
        code_version=code_version("synthesize_audio"),
    ).outputs["synthetic"]
    first = filter_audio(
        synthetic=synthetic,
        gold=data["gold"],
        clap=finetuned,
        config=planned["filter_audio"],
        code_version=code_version("filter_audio"),
    ).outputs
    sets = first
    for number in range(1, MAX_ROUNDS + 1):
        sets = (
            reflection_round(
                t2a=t2a,
                aligned=aligned,
                gold=data["gold"],
                clap=finetuned,
                captions=captions,
                accepted=sets["accepted"],
                rejected=sets["rejected"],
                revise_config=planned["revise_captions"],
                synthesize_config=planned["synthesize_audio"],
                filter_config=planned["filter_audio"],
                round=number,
            )
            .set_display_name(f"self-reflection-{number}")
            .outputs
        )
    trained = train_classifier(
        classifier=classifier,
        gold=data["gold"],
        vanilla=losers,
        accepted=sets["accepted"],
        config=planned["train_classifier"],
        code_version=code_version("train_classifier"),
    ).outputs["classifiers"]
    evaluated = evaluate_classifier(
        classifiers=trained,
        gold=data["gold"],
        test=data["test"],
        vanilla=losers,
        accepted=sets["accepted"],
        clap=clap,
        config=planned["evaluate_classifier"],
        code_version=code_version("evaluate_classifier"),
    ).outputs
    reported = report(
        evaluation=evaluated["evaluation"],
        gold=data["gold"],
        corpus=corpus,
        t2a=t2a,
        aligned=aligned,
        clap=finetuned,
        classifiers=trained,
        captions=captions,
        vanilla=losers,
        accepted=sets["accepted"],
        rejected=first["rejected"],
        config=planned["report"],
        code_version=code_version("report"),
    )
    return Outputs(reported.outputs["results"], evaluated["classifier"], sets["accepted"], t2a, aligned)
