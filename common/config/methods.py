"""Methods that a run compares, as data. A new method is one record in `METHODS`.

A method determines the clips in the synthetic half of each training batch and the classic
augmentation. The rows are those of the paper's Table 1 (arXiv 2410.02056), and
`synthio_classic`, which reviewers asked for.
"""

from collections.abc import Iterable
from typing import Literal

from common.config.augmentations import AUGMENTATIONS
from common.config.base import Frozen
from common.config.recipes import LOSERS, OF_LABEL, RETRIEVED, Recipe
from common.errors import ConfigError, unknown_name


class Method(Frozen):
    """One row of the result table.

    `classic="best"` is the classic method and strength with the best validation figure: among the classic
    methods of the run, or else noise and SpecAugment.
    """

    title: str
    recipe: Recipe | None = None
    classic: str = "none"
    """`none`, `best`, `specaugment`, or the name of an augmentation of waveforms."""
    again: bool = False
    """Train from another seed; an A/A test against the same method without it."""

    @property
    def ceiling(self) -> bool:
        """Whether the method is a ceiling for any generator; it uses real clips that a user of n clips lacks."""
        return self.recipe is not None and self.recipe.source == "real"

    @property
    def synthetic(self) -> bool:
        """Whether the method trains on generated clips."""
        return self.recipe is not None and self.recipe.source == "generate"

    @property
    def side(self) -> Literal["without", "with", "control"] | None:
        """Where the method stands in the comparison of the best classifiers; None = a ceiling, which takes no part.

        `without` trains on the run's own clips, `with` on generated ones too, `control` on clips of the pretraining
        corpus as they are: what a generator that learned from that corpus has to beat.
        """
        if self.ceiling:
            return None
        if self.synthetic:
            return "with"
        return "control" if self.recipe and self.recipe.from_corpus else "without"

    @property
    def of_label(self) -> bool:
        """Whether it takes, or starts from, the corpus clips of the labels."""
        return self.recipe is not None and self.recipe.corpus_clips == OF_LABEL

    @property
    def takes_corpus(self) -> bool:
        """Whether it needs clips of the pretraining corpus: as they are, to start from, or as background noise."""
        return self.classic == "background" or (self.recipe is not None and self.recipe.corpus_clips is not None)

    @property
    def without_clips(self) -> str | None:
        """Why there may be no clips for the method, so that it is left out; None = there always are."""
        if self.ceiling:
            return "the dataset has no labelled clips beyond those of the run"
        return "the corpus holds no clip of the labels" if self.of_label else None


_SYNTHIO = Recipe(alignment="dpo", captions="mixcap", filter=True)

METHODS: dict[str, Method] = {
    "gold": Method(title="Gold only"),
    "gold_again": Method(title="Gold only, another seed (A/A)", again=True),
    **{kind.method or name: Method(title=kind.title, classic=name) for name, kind in AUGMENTATIONS.items()},
    "specaugment": Method(title="SpecAugment", classic="specaugment"),
    "retrieval": Method(title="Retrieval", recipe=RETRIEVED),
    "corpus_label": Method(title="Corpus clips of the label", recipe=OF_LABEL),
    "vanilla": Method(title="Vanilla synthetic", recipe=LOSERS),
    "vanilla_matched": Method(title="+ recording matched to gold", recipe=Recipe(matched=True, rounds=0)),
    "llm_captions": Method(title="+ LLM captions", recipe=Recipe(captions="label_only", rounds=0)),
    "synthio": Method(title="Synthio", recipe=_SYNTHIO),
    "synthio_template": Method(title="w/ template captions", recipe=Recipe(alignment="dpo", filter=True, rounds=0)),
    "synthio_erm": Method(title="w/ ERM", recipe=_SYNTHIO.model_copy(update={"alignment": "erm"})),
    "synthio_no_reflection": Method(title="w/o self-reflection", recipe=_SYNTHIO.model_copy(update={"rounds": 0})),
    "synthio_no_mixcap": Method(title="w/o MixCap", recipe=_SYNTHIO.model_copy(update={"captions": "plain"})),
    "synthio_no_dpo": Method(title="w/o DPO", recipe=_SYNTHIO.model_copy(update={"alignment": "none"})),
    "synthio_corpus": Method(
        title="Synthio from corpus clips", recipe=Recipe(alignment="dpo", start="corpus", rounds=0)
    ),
    "synthio_classic": Method(title="Synthio + best classic", recipe=_SYNTHIO, classic="best"),
    "extra_real": Method(title="Extra real clips (ceiling)", recipe=Recipe(source="real", rounds=0)),
}

BASELINE, SUBJECT, COMBINED = "gold", "synthio", "synthio_classic"
"""The methods that a verdict compares."""
BEST_CLASSIC = "best_classic"
"""In each replicate, the classic method with the best validation figure; not a method of its own."""
ABLATIONS = (
    "vanilla",
    "vanilla_matched",
    "llm_captions",
    "synthio_template",
    "synthio_erm",
    "synthio_no_reflection",
    "synthio_no_mixcap",
    "synthio_no_dpo",
)
"""Synthio with one or several parts removed."""

DEFAULT_METHODS = ("gold", "noise", "specaugment", "vanilla", "synthio", "synthio_classic")


def in_order(names: Iterable[str]) -> list[str]:
    """Sort method names in the order of `METHODS`, unknown ones last; KFP does not keep the order of a dict."""
    catalogue = list(METHODS)
    return sorted(names, key=lambda name: (catalogue.index(name) if name in METHODS else len(catalogue), name))


def resolve_methods(names: str, otherwise: Iterable[str] = ()) -> dict[str, Method]:
    """Parse comma- or space-separated method names; empty = `otherwise`, those of a preset, or else the default six.

    Raises ConfigError: a name is listed twice or unknown; the message then lists the nearest names.
    """
    listed = names.replace(",", " ").split() or list(otherwise) or list(DEFAULT_METHODS)
    twice = {name for name in listed if listed.count(name) > 1}
    if twice:
        raise ConfigError(f"methods: {', '.join(sorted(twice))} named twice")
    if unknown := [name for name in listed if name not in METHODS]:
        raise unknown_name("method", unknown[0], METHODS)
    return {name: METHODS[name] for name in listed}


def resolve_recipes(methods: dict[str, Method]) -> tuple[Recipe, ...]:
    """Distinct recipes that generate clips for `methods`, without the losers.

    Methods that differ only in rounds share one recipe with the largest number of rounds; each method
    then takes the clips of its own rounds.
    """
    found: dict[str, Recipe] = {}
    for method in methods.values():
        recipe = method.recipe
        if recipe is None or recipe == LOSERS or recipe.source != "generate":
            continue
        known = found.get(recipe.name)
        if known is None or recipe.rounds is None or (known.rounds is not None and recipe.rounds > known.rounds):
            found[recipe.name] = recipe
    return tuple(found[name] for name in sorted(found))
