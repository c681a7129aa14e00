"""The README.md of the classifier that a run hands on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from common.config.licence import DeclaredUse, LicensedPart

_TEMPLATE = """---
{metadata}
---

# Audio classifier: {name}

Classifies {domain} into {count} classes: {labels}.

An Audio Spectrogram Transformer trained by the method "{title}" (`{method}`), which had the best mean accuracy on
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

Intended use: {domain}, recorded as in the training data. Every input gets one of the {count} labels, also one that
holds none of these sounds. Do not rely on it where a wrong label does harm.

## Figures

On {n_test} test clips that no part of the training, the generation or the choice of models had seen:

| | accuracy | macro-F1 | calibration error |
| --- | --- | --- | --- |
| this model | {accuracy} | {macro_f1} | {ece} |
| its method, mean of {replicates} ({confidence} interval) | {mean_accuracy} | {mean_macro_f1} | {mean_ece} |

Recall by class, mean over the replicates of the method: {recall}.

## Training data

- Real clips: dataset "{name}", {n_train} training and {n_val} validation clips. Licence: {licence}.
- Synthetic clips: {synthetic}.
- Leak guard: {leaks}.

## Licences

The run that made this model was declared for {use} use. What went into the model:

{parts}

Made with Synthio (arXiv 2410.02056).
"""


def model_card(
    evaluation: Mapping[str, Any],
    dataset: Mapping[str, Any],
    counts: Mapping[str, int],
    window_s: float,
    synthetic: bool,
    use: DeclaredUse = "research",
    licences: Sequence[LicensedPart] = (),
) -> str:
    """The model card in Markdown, with metadata that the Hugging Face hub reads.

    Args:
        evaluation: the content of evaluation.json.
        dataset: the dataset's record: name, domain, licence.
        counts: n_train and n_val.
        window_s: seconds that the model hears at once.
        synthetic: whether the chosen method trains on synthetic clips.
        use: what the run is declared for.
        licences: of all that went into the run.
    """
    chosen = evaluation["selected"]
    scores = evaluation["methods"][chosen["method"]]
    place = scores["seeds"].index(chosen["seed"])
    recall = [
        f"{_inline(label)} {_percent(value)}"
        for label, value in zip(evaluation["labels"], scores["recall"], strict=True)
        if value is not None
    ]
    return _TEMPLATE.format(
        metadata=_metadata(dataset, scores["accuracy"]["per_seed"][place]),
        name=_inline(str(dataset.get("name", "custom"))),
        domain=_inline(str(dataset.get("domain") or "sounds")),
        count=len(evaluation["labels"]),
        labels=", ".join(_inline(label) for label in evaluation["labels"]),
        title=scores["title"],
        method=chosen["method"],
        seed=chosen["seed"],
        validation=_percent(chosen["score"]),
        window_s=window_s,
        n_test=evaluation["test"]["clips"],
        replicates=len(scores["seeds"]),
        confidence=f"{evaluation['confidence']:.0%}",
        accuracy=_percent(scores["accuracy"]["per_seed"][place]),
        macro_f1=_percent(scores["macro_f1"]["per_seed"][place]),
        ece=f"{scores['ece']['per_seed'][place]:.3f}",
        mean_accuracy=_with_interval(scores["accuracy"]),
        mean_macro_f1=_with_interval(scores["macro_f1"]),
        mean_ece=f"{scores['ece']['mean']:.3f}",
        recall=", ".join(recall),
        n_train=counts["n_train"],
        n_val=counts["n_val"],
        licence=_inline(str(dataset.get("licence") or "not stated")),
        synthetic="generated from captions, each with its provenance, in the run's folder `synthetic/`"
        if synthetic
        else "none",
        leaks=_leaks(evaluation["leaks"]),
        use=use,
        parts=_parts(licences, synthetic),
    )


def _metadata(dataset: Mapping[str, Any], accuracy: float) -> str:
    # JSON is YAML, and no name can break out of a JSON string.
    name = str(dataset.get("name", "custom"))
    result = {
        "task": {"type": "audio-classification"},
        "dataset": {"name": name, "type": "audiofolder"},
        "metrics": [{"type": "accuracy", "value": round(accuracy, 4)}],
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


def _parts(licences: Sequence[LicensedPart], synthetic: bool) -> str:
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
