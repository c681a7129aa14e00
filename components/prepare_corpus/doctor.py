"""What the captions of a corpus name, known before anything is trained."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain

from common.config.corpus import PrepareCorpusConfig
from common.corpus.naming import Names
from common.models.concepts import Nearness
from common.procedural.clips import CLASSES
from common.storage import open_store, split_uri
from components.prepare_corpus.captions import detect_format, read_captions

Named = tuple[dict[str, int], list[Nearness]]


def named_labels(settings: PrepareCorpusConfig, labels: Sequence[str], seed: int) -> Named | None:
    """How many captions name each label, and for labels that none names the caption that shares most words.

    None = there is no corpus, or its captions are not on this machine.

    Raises DataError: the captions cannot be read.
    """
    rows = _rows(settings, seed)
    if rows is None:
        return None
    names, counts = Names(labels), Counter[str]()
    near = {label: Nearness(label, None, 0.0) for label in labels}
    for label, caption in rows:
        counts.update(names(label or "") or names(caption))
        for name, share in names.shared(caption).items():
            if share > near[name].shared:
                near[name] = Nearness(name, caption, round(share, 3))
    return {label: counts[label] for label in labels}, [near[label] for label in labels if not counts[label]]


def _rows(settings: PrepareCorpusConfig, seed: int) -> Iterator[tuple[str | None, str]] | None:
    """Label and caption of each row; of generated clips the class in place of a caption."""
    files = settings.source in ("folder", "tar")
    if settings.source == "none" or (files and settings.captions_file is None):
        return None
    made = settings.procedural_clips if files else settings.clips
    generated = ((None, CLASSES[index % len(CLASSES)]) for index in range(made))
    if not files:
        return generated
    store, name = split_uri(str(settings.captions_file))
    path = open_store(store).local_path(name)
    if path is None:
        return None
    kind = detect_format(path) if settings.captions_format == "auto" else settings.captions_format
    read = read_captions(path, kind, lambda where, reason: None, seed)
    return chain(((row.label, row.caption) for row in read), generated)
