"""What the captions of a corpus name and lack, known before anything is trained."""

import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain, groupby
from operator import attrgetter

from common.config.corpus import PrepareCorpusConfig
from common.corpus.naming import Names
from common.errors import DataError
from common.models.concepts import Nearness
from common.procedural.clips import CLASSES
from common.storage.items import ItemStore
from components.prepare_corpus.index import IndexRow
from components.prepare_corpus.recordings import open_recordings

Named = tuple[dict[str, int], list[Nearness]]


def named_labels(
    settings: PrepareCorpusConfig,
    labels: Sequence[str],
    several: bool,
    seed: int,
    excluded_files: tuple[str, ...] = (),
    labelled: bool = False,
) -> Named | None:
    """How many clips are named each label, and for labels of none the caption that shares most words.

    Where gold clips do not have `several` labels, a clip that is named several does not count. None = there is no
    corpus, or its captions are not on this machine.

    Args:
        labelled: whether the run trains a classifier on the corpus, which then must have labels.

    Raises DataError: `prepare_corpus` would refuse the captions, or they have no labels and must.
    """
    files = settings.source in ("folder", "tar")
    made = settings.procedural_clips if files else settings.clips
    generated = (IndexRow(-1 - index, None, CLASSES[index % len(CLASSES)], None) for index in range(made))
    if settings.source == "procedural":
        return _named(generated, labels, several)
    if not files or settings.captions_file is None or settings.captions_file.startswith("s3://"):
        return None
    with tempfile.TemporaryDirectory(prefix="synthio-doctor-") as folder:
        index = open_recordings(settings, seed, excluded_files, ItemStore("doctor", "", folder)).index
        # The built-in clips have labels.
        if labelled and not made and all(row.label is None for row in index.captions()):
            raise DataError(
                f"{settings.captions_file}: no clip has a label, and the run trains pretrain_classifier on the labels "
                "of the corpus; add a column label, or set pretrain_classifier.optim=null and name a checkpoint in "
                "pretrain_classifier.checkpoint (preset tiny brings one: nano/encoder)"
            )
        return _named(chain(index.captions(), generated), labels, several)


def check_corpus_labels(settings: PrepareCorpusConfig, seed: int, excluded_files: tuple[str, ...] = ()) -> None:
    """Check a corpus whose labels a classifier is to be trained on, where its captions are on this machine.

    Raises DataError: as `named_labels`.
    """
    named_labels(settings, (), False, seed, excluded_files, labelled=True)


def _named(rows: Iterable[IndexRow], labels: Sequence[str], several: bool) -> Named:
    names, counts = Names(labels), Counter[str]()
    near = {label: Nearness(label, None, 0.0) for label in labels}
    for _, same in groupby(rows, attrgetter("clip")):
        told = [(row.label, row.caption) for row in same]
        found = names.of_clip(told)
        counts.update(found if several or len(found) == 1 else ())
        for _, caption in told:
            for name, share in names.shared(caption).items():
                if share > near[name].shared:
                    near[name] = Nearness(name, caption, round(share, 3))
    return {label: counts[label] for label in labels}, [near[label] for label in labels if not counts[label]]
