"""Model card (README.md) of the classifier that a run delivers."""

import json
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from common.config.dataset import DeclaredUse, LicensedPart
from common.config.learners import BLEND, find_learner
from common.contracts.evaluation import DeliveredScores, Evaluation
from common.contracts.gold import Dataset
from common.pages.direction import isolated
from common.study.comparisons import FIGURES

TEMPLATE = Path(__file__).parent / "templates" / "model_card.md.j2"
MAX_TABLE_CLASSES = 12
"""Largest confusion matrix shown; with more classes only the most frequent mistakes are listed."""
MISTAKES = 10


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
    learner = find_learner(told.learner).title
    if told.learner == BLEND:
        learner += f" ({', '.join(find_learner(name).title for name in told.members)})"
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {"inline": _inline, "percent": _percent}
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        metadata=_metadata(dataset, evaluation.figure, told.score.mean, transformers),
        evaluation=evaluation,
        told=told,
        dataset=dataset,
        labels=evaluation.labels,
        learner=learner[0].upper() + learner[1:],
        figure=FIGURES[evaluation.figure],
        pair=evaluation.learners[told.learner][told.method],
        confidence=f"{evaluation.confidence:.0%}",
        transformers=transformers,
        peak_dbfs=peak_dbfs,
        synthetic=synthetic,
        use=use,
        licences=licence_lines(licences, synthetic),
        listed=_listed,
        confusion=_confusion,
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
    return isolated("".join("\\" + c if c in "\\`*_[]<>|#~" else c for c in " ".join(text.split())))


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
