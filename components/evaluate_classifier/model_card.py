"""Model card (README.md) of the classifier that a run delivers."""

import json
from collections.abc import Sequence

from common.config.dataset import DeclaredUse, LicensedPart
from common.config.learners import BLEND, find_learner
from common.contracts.evaluation import DeliveredScores, Evaluation, Leaks
from common.contracts.gold import Dataset
from common.study.comparisons import FIGURES

_TEMPLATE = """---
{metadata}
---

# Audio classifier: {name}

Classifies {domain} into {count} classes: {labels}.

{learner}, trained by the method "{title}" (`{method}`): of all learners and methods of its run this pair had the lowest
loss on validation clips. It was then trained again on all {clips} labelled clips outside the test split; test clips had
no part in either.

## Use

{usage}

Intended use: {domain}, recorded as in the training data. {answers} Do not rely on it where a wrong label does harm.

## Figures

On {n_test} test clips that no part of this run's training, generation or choice of models had seen:

| | {figure} | macro-F1 | calibration error |
| --- | --- | --- | --- |
| this model | {headline} | {macro_f1} | {ece} |
| the same pair on the run's {n_train} clips, mean of {replicates} ({confidence} interval) | {mean_headline} | | |

Probabilities are calibrated by a temperature that validation clips chose.

{by_label}

## Training data

- Real clips: dataset "{name}", {clips} labelled clips. Licence: {licence}.
- Synthetic clips: {synthetic}.
- Leak guard: {leaks}.
- Published models: {heard}

## Licences

The run that made this model was declared for {use} use. What went into the model:

{parts}

Made with Synthio (arXiv 2410.02056).
"""

_PIPELINE = """```python
from transformers import pipeline

classify = pipeline("audio-classification", model="<this folder>")
classify("recording.wav")
```

The pipeline hears the first seconds of a file, as many as the model's window has. `make classify MODEL=<this folder>
AUDIO=<file or folder>` of Synthio hears it whole; `make export-onnx MODEL=<this folder> OUT=model.onnx` makes one ONNX
graph of it: waveform in, probabilities out."""

_LEVEL = """

The model was trained on clips scaled to one peak, and `make classify` and the graph scale each clip; the pipeline does
not. Give it samples of that peak: `classify(samples * {peak:.3g} / abs(samples).max())`."""

_SYNTHIO = """`make classify MODEL=<this folder> AUDIO=<file or folder>` of Synthio classifies recordings;
`make export-onnx MODEL=<this folder> OUT=model.onnx` makes one ONNX graph of it: waveform in, probabilities out. It is
no model of transformers."""

MAX_TABLE_CLASSES = 12
"""Largest confusion matrix shown; with more classes only the most frequent mistakes are listed."""
MISTAKES = 10

_SEVERAL = """Each clip may have several labels; the probability of each is the sigmoid of its logit. mAP is the mean
over labels of the average precision. For macro-F1 a label counts as heard from a probability of {threshold:.3g} on
(`threshold` in its JSON file), chosen on validation clips. The calibration error is that of all labels of all clips.

Average precision by label: {precisions}."""


def model_card(
    evaluation: Evaluation,
    told: DeliveredScores,
    dataset: Dataset,
    *,
    transformers: bool,
    peak_dbfs: float | None = None,
    synthetic: bool,
    use: DeclaredUse = "research",
    licences: Sequence[LicensedPart] = (),
) -> str:
    """Model card in Markdown, with metadata for the Hugging Face hub.

    Args:
        transformers: whether `transformers.pipeline` opens the model.
        peak_dbfs: to which such a model scales each clip; None = it hears clips as they are.
    """
    figure, pair = evaluation.figure, evaluation.learners[told.learner][told.method]
    learner = find_learner(told.learner).title
    if told.learner == BLEND:
        learner += f" ({', '.join(find_learner(name).title for name in told.members)})"
    return _TEMPLATE.format(
        metadata=_metadata(dataset, figure, told.score.mean, transformers),
        name=_inline(dataset.name),
        domain=_inline(dataset.domain),
        count=len(evaluation.labels),
        labels=", ".join(_inline(label) for label in evaluation.labels),
        figure=FIGURES[figure],
        answers=_answers(evaluation),
        by_label=_by_label(evaluation, told),
        learner=learner[0].upper() + learner[1:],
        title=evaluation.methods[told.method].title,
        method=told.method,
        clips=told.clips,
        usage=_usage(transformers, peak_dbfs),
        n_test=evaluation.test.clips,
        n_train=evaluation.n_train,
        replicates=len(pair.seeds),
        confidence=f"{evaluation.confidence:.0%}",
        headline=_percent(told.score.mean),
        macro_f1=_percent(told.macro_f1.mean),
        ece=f"{told.ece.mean:.3f}",
        mean_headline=f"{_percent(pair.score.mean)} ({100 * pair.score.low:.1f} to {100 * pair.score.high:.1f})",
        licence=_inline(dataset.licence or "not stated"),
        synthetic="generated from captions, each with its provenance, in the run's folder `synthetic/`"
        if synthetic
        else "none",
        leaks=_leaks(evaluation.leaks),
        heard=" ".join(evaluation.heard) or "none is known to have heard this dataset's recordings.",
        use=use,
        parts=licence_lines(licences, synthetic),
    )


def _usage(transformers: bool, peak_dbfs: float | None) -> str:
    if not transformers:
        return _SYNTHIO
    return _PIPELINE if peak_dbfs is None else _PIPELINE + _LEVEL.format(peak=10 ** (peak_dbfs / 20))


def _answers(evaluation: Evaluation) -> str:
    count = len(evaluation.labels)
    if evaluation.figure == "map":
        return f"Every input gets a probability for each of the {count} labels; it\nmay have several of them, or none."
    return f"Every input gets one of the {count} labels, also one that\nholds none of these sounds."


def _by_label(evaluation: Evaluation, scores: DeliveredScores) -> str:
    """Figures per label: average precision, or recall and confusion."""
    if scores.average_precision is not None:
        precisions = _listed(evaluation.labels, scores.average_precision)
        return _SEVERAL.format(threshold=scores.threshold, precisions=precisions)
    recall = _listed(evaluation.labels, scores.recall or [])
    return f"Recall by class: {recall}.\n\n{_confusion(evaluation.labels, scores.confusion or [])}"


def _listed(labels: Sequence[str], values: Sequence[float | None]) -> str:
    found = zip(labels, values, strict=True)
    return ", ".join(f"{_inline(label)} {_percent(value)}" for label, value in found if value is not None)


def _confusion(labels: Sequence[str], matrix: Sequence[Sequence[int]]) -> str:
    """Confusion matrix as a table, or the most frequent mistakes if there are many classes."""
    names, totals = [_inline(label) for label in labels], [sum(row) for row in matrix]
    if len(labels) <= MAX_TABLE_CLASSES:
        rows = [
            [f"**{name}**", *(f"{100 * count / total:.0f}" if total else "" for count in row)]
            for name, row, total in zip(names, matrix, totals, strict=True)
        ]
        lines = ["| " + " | ".join(cells) + " |" for cells in [["", *names], ["---"] * (len(names) + 1), *rows]]
        start = "Confusion matrix in percent of each true class, in rows; columns are what the model said:"
        return start + "\n\n" + "\n".join(lines)
    mistakes = sorted(
        (-count / totals[i], names[i], names[j])
        for i, row in enumerate(matrix)
        for j, count in enumerate(row)
        if i != j and count
    )
    listed = ", ".join(f"{true} heard as {heard} {_percent(-share)}" for share, true, heard in mistakes[:MISTAKES])
    return f"Most frequent mistakes, in percent of the true class: {listed or 'none'}."


def _metadata(dataset: Dataset, figure: str, value: float, transformers: bool) -> str:
    # JSON is valid YAML, and no name can break out of a JSON string.
    name = dataset.name
    result = {
        "task": {"type": "audio-classification"},
        "dataset": {"name": name, "type": "audiofolder"},
        "metrics": [{"type": figure, "value": round(value, 4)}],
    }
    fields: dict[str, object] = {
        "library_name": "transformers" if transformers else "synthio",
        "pipeline_tag": "audio-classification",
        "license": "other",
        "license_name": dataset.licence or "not stated",
        "tags": ["audio", "synthio"],
        "model-index": [{"name": f"synthio-{name}", "results": [result]}],
    }
    return "\n".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items())


def _inline(text: str) -> str:
    return "".join("\\" + c if c in "\\`*_[]<>|#" else c for c in " ".join(text.split()))


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def licence_lines(licences: Sequence[LicensedPart], synthetic: bool) -> str:
    """One line for each licensed part of a model; parts of generation only where it was trained on synthetic clips."""
    rows = [
        f"- {'dataset' if part.kind == 'dataset' else 'model'} {_inline(part.name)}: {_inline(part.licence)}; "
        + (f"allows {part.use} use" if part.use else "what it allows is not known")
        + (f"; {_inline(part.conditions)}" if part.conditions else "")
        for part in licences
        if part.kind != "generation" or synthetic
    ]
    return "\n".join(rows) or "- not recorded"


def _leaks(leaks: Leaks) -> str:
    if not leaks.test_clips:
        return "no test clip stands among the training or synthetic clips"
    return f"**{leaks.test_clips} of {leaks.test} test clips stand among the training or synthetic clips**"
