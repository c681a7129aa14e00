"""Model card (README.md) of the classifier that a run delivers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from common.config.licence import DeclaredUse, LicensedPart
from common.study.comparisons import FIGURES

_TEMPLATE = """---
{metadata}
---

# Audio classifier: {name}

Classifies {domain} into {count} classes: {labels}.

An Audio Spectrogram Transformer trained by the method "{title}" (`{method}`), which had the best mean {by} on
validation clips in its run. This is its best replicate there, number {seed} ({validation}); test clips had no part
in the choice.

## Use

```python
from transformers import pipeline

classify = pipeline("audio-classification", model="<this folder>")
classify("recording.wav")
```

The pipeline hears the first {window_s:.2f} s of a file. Longer recordings: cut them into windows of that length
and average the logits, as was done for the figures below.

Intended use: {domain}, recorded as in the training data. {answers} Do not rely on it where a wrong label does harm.

## Figures

On {n_test} test clips that no part of this run's training, generation or choice of models had seen:

| | {figure} | macro-F1 | calibration error |
| --- | --- | --- | --- |
| this model | {headline} | {macro_f1} | {ece} |
| its method, mean of {replicates} ({confidence} interval) | {mean_headline} | {mean_macro_f1} | {mean_ece} |

{by_label}

## Training data

- Real clips: dataset "{name}", {n_train} training and {n_val} validation clips. Licence: {licence}.
- Synthetic clips: {synthetic}.
- Leak guard: {leaks}.
- Published models: {heard}

## Licences

The run that made this model was declared for {use} use. What went into the model:

{parts}

Made with Synthio (arXiv 2410.02056).
"""

MAX_TABLE_CLASSES = 12
"""Largest confusion matrix shown; with more classes only the most frequent mistakes are listed."""
MISTAKES = 10

_SEVERAL = """Each clip may have several labels; the probability of each is the sigmoid of its logit. mAP is the mean
over labels of the average precision. For macro-F1 a label counts as heard from a probability of {threshold:.3g} on
(`threshold` in config.json), chosen on validation clips. The calibration error is that of all labels of all clips.

Average precision by label, mean over the replicates of the method: {precisions}."""


def model_card(
    evaluation: Mapping[str, Any],
    dataset: Mapping[str, Any],
    counts: Mapping[str, int],
    window_s: float,
    synthetic: bool,
    use: DeclaredUse = "research",
    licences: Sequence[LicensedPart] = (),
) -> str:
    """Model card in Markdown, with metadata for the Hugging Face hub.

    Args:
        evaluation: content of evaluation.json.
        dataset: name, domain and licence of the dataset.
        counts: `n_train` and `n_val`.
        window_s: length of the model's input in seconds.
        synthetic: whether the selected method trains on synthetic clips.
        use: declared use of the run.
        licences: licences of everything that went into the run.
    """
    chosen, figure = evaluation["selected"], evaluation.get("figure", "accuracy")
    scores = evaluation["methods"][chosen["method"]]
    place = scores["seeds"].index(chosen["seed"])
    return _TEMPLATE.format(
        metadata=_metadata(dataset, figure, scores[figure]["per_seed"][place]),
        name=_inline(str(dataset.get("name", "custom"))),
        domain=_inline(str(dataset.get("domain") or "sounds")),
        count=len(evaluation["labels"]),
        labels=", ".join(_inline(label) for label in evaluation["labels"]),
        by=FIGURES[chosen.get("by", "accuracy")],
        figure=FIGURES[figure],
        answers=_answers(evaluation),
        by_label=_by_label(evaluation, scores),
        title=scores["title"],
        method=chosen["method"],
        seed=chosen["seed"],
        validation=_percent(chosen["score"]),
        window_s=window_s,
        n_test=evaluation["test"]["clips"],
        replicates=len(scores["seeds"]),
        confidence=f"{evaluation['confidence']:.0%}",
        headline=_percent(scores[figure]["per_seed"][place]),
        macro_f1=_percent(scores["macro_f1"]["per_seed"][place]),
        ece=f"{scores['ece']['per_seed'][place]:.3f}",
        mean_headline=_with_interval(scores[figure]),
        mean_macro_f1=_with_interval(scores["macro_f1"]),
        mean_ece=f"{scores['ece']['mean']:.3f}",
        n_train=counts["n_train"],
        n_val=counts["n_val"],
        licence=_inline(str(dataset.get("licence") or "not stated")),
        synthetic="generated from captions, each with its provenance, in the run's folder `synthetic/`"
        if synthetic
        else "none",
        leaks=_leaks(evaluation["leaks"]),
        heard=" ".join(evaluation.get("heard", ())) or "none is known to have heard this dataset's recordings.",
        use=use,
        parts=licence_lines(licences, synthetic),
    )


def _answers(evaluation: Mapping[str, Any]) -> str:
    count = len(evaluation["labels"])
    if evaluation.get("figure") == "map":
        return f"Every input gets a probability for each of the {count} labels; it\nmay have several of them, or none."
    return f"Every input gets one of the {count} labels, also one that\nholds none of these sounds."


def _by_label(evaluation: Mapping[str, Any], scores: Mapping[str, Any]) -> str:
    """Figures per label: average precision, or recall and confusion."""
    if evaluation.get("figure") == "map":
        precisions = _listed(evaluation["labels"], scores["average_precision"])
        return _SEVERAL.format(threshold=evaluation["selected"]["threshold"], precisions=precisions)
    recall = _listed(evaluation["labels"], scores["recall"])
    return (
        f"Recall by class, mean over the replicates of the method: {recall}.\n\n"
        f"{_confusion(evaluation['labels'], scores['confusion'])}"
    )


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
        start = "Confusion matrix in percent of each true class, in rows; columns are what the method's models said:"
        return start + "\n\n" + "\n".join(lines)
    mistakes = sorted(
        (-count / totals[i], names[i], names[j])
        for i, row in enumerate(matrix)
        for j, count in enumerate(row)
        if i != j and count
    )
    listed = ", ".join(f"{true} heard as {heard} {_percent(-share)}" for share, true, heard in mistakes[:MISTAKES])
    return f"Most frequent mistakes, in percent of the true class: {listed or 'none'}."


def _metadata(dataset: Mapping[str, Any], figure: str, value: float) -> str:
    # JSON is valid YAML, and no name can break out of a JSON string.
    name = str(dataset.get("name", "custom"))
    result = {
        "task": {"type": "audio-classification"},
        "dataset": {"name": name, "type": "audiofolder"},
        "metrics": [{"type": figure, "value": round(value, 4)}],
    }
    fields: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "audio-classification",
        "license": "other",
        "license_name": str(dataset.get("licence") or "not stated"),
        "tags": ["audio", "synthio"],
        "model-index": [{"name": f"synthio-{name}", "results": [result]}],
    }
    return "\n".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items())


def _inline(text: str) -> str:
    return "".join("\\" + c if c in "\\`*_[]<>|#" else c for c in " ".join(text.split()))


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _with_interval(score: Mapping[str, float]) -> str:
    return f"{_percent(score['mean'])} ({100 * score['low']:.1f} to {100 * score['high']:.1f})"


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


def _leaks(leaks: Mapping[str, Any]) -> str:
    if not leaks["test_clips"]:
        return "no test clip stands among the training or synthetic clips"
    return f"**{leaks['test_clips']} of {leaks['test']} test clips stand among the training or synthetic clips**"
