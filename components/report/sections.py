"""Rows of the page's tables and lines of its charts, from report.json (`report`) and page.json (`shown`)."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from markupsafe import Markup

from common.config.evaluation import ReportPlan
from common.config.learners import find_learner, learners_in_order
from common.config.methods import ABLATIONS, BASELINE, BEST_CLASSIC, COMBINED, METHODS, SUBJECT, Method, in_order
from common.config.run import RunConfig
from common.contracts.evaluation import Best, Distance, Figures, Heard, Interval, MethodDifference, Range
from common.contracts.generation import Alignment
from common.contracts.report import AcousticSet, Report
from common.pages import charts
from common.pages.charts import Line
from common.study.comparisons import reliable
from common.study.paper import published
from components.report.acoustics import FEW, REFERENCE
from components.report.shown import Candidate, Shown
from components.report.wording import pair, title

MAX_NUMBERED_CLASSES = 14
"""Largest number of classes for numbers in a confusion matrix; larger ones show shades only."""

DISTANCES = {
    "spectrum_db": "mean spectrum, dB",
    "latent_frechet": "latent frames, Fréchet",
    "held_out_error": "error on validation clips",
    "learner_loss": "loss of a learner that gets the clips",
}
KEPT_BY = {
    "spectrum_db": "distance in mean spectrum",
    "latent_frechet": "distance of latent frames",
    "held_out_error": "error on validation clips",
    "learner_loss": "loss of a learner that gets its clips, on validation clips",
}
"""Names of an alignment's figures: `DISTANCES` as titles, `KEPT_BY` within a sentence."""
_TRAINED = {
    "loss": "Loss",
    "winner_error": "Winner error",
    "d_winner": "Winner error against the start",
    "implicit_accuracy": "Implicit accuracy",
}
_WATCHED = {
    "held_out_error": "Error on validation clips",
    "spectrum_db": "Distance to gold, dB",
    "learner_loss": "Loss of a learner that gets the clips",
}
_SPECTRA = {"gold": "real clips", "before": "before alignment", "after": "after alignment"}
_JUDGED = {"score": "CLAP score (cosine with the label)", "margin": "CLAP margin (over the best other label)"}

TILES = (BASELINE, BEST_CLASSIC, SUBJECT, COMBINED)
"""Methods with a tile below the verdict."""


class MethodRow(NamedTuple):
    """Row of the table of methods."""

    title: str
    told: Figures
    versus: MethodDifference | None
    best: bool
    ceiling: bool
    paper: float | None


def method_rows(report: Report, n: int | None = None) -> dict[str, MethodRow]:
    """Rows of the table of methods by name, ceilings last; with the paper's figures for `n` training clips, if any."""
    told: dict[str, Figures] = {name: report.methods[name] for name in in_order(report.methods)}
    ceilings = {name for name in told if name in METHODS and METHODS[name].ceiling}
    top = max((row.score.mean for name, row in told.items() if name not in ceilings), default=1.0)
    against = {row.method: row for row in report.differences if row.versus == BASELINE}
    if report.best_classic:
        told[BEST_CLASSIC] = report.best_classic
    return {
        name: MethodRow(
            title=title(name, report),
            told=told[name],
            versus=against.get(name),
            best=told[name].score.mean == top and name not in ceilings,
            ceiling=name in ceilings,
            paper=published(report.dataset.name, n, name) if n else None,
        )
        for name in sorted(told, key=ceilings.__contains__)
    }


def axis(rows: Iterable[MethodRow]) -> tuple[float, float]:
    """Axis of the bars of the table of methods; no score is above 1."""
    low, high = charts.span([end for row in rows for end in (row.told.score.low, row.told.score.high)])
    return low - max(0.0, high - 1), min(high, 1.0)


def learner_rows(report: Report) -> dict[str, list[tuple[Interval, bool] | None]]:
    """By method, what each learner reaches on its clips and whether validation chose it; empty with AST alone.

    Learners are in the order of the catalogue, as JSON sorts their names.
    """
    learners = learners_in_order(report.learners)
    best = report.best
    chosen = {(side.learner, side.method) for side in (best.without, best.synthetic, best.control) if side}
    return {
        method: [
            (cell.score, (name, method) in chosen) if (cell := report.learners[name].get(method)) else None
            for name in learners
        ]
        for method in in_order({method for own in report.learners.values() for method in own})
        if len(learners) > 1
    }


def best_tiles(report: Report) -> list[tuple[str, Best, str]]:
    """What validation chose on each side, where another learner than AST could be chosen."""
    best = report.best
    sides = {
        "Best without synthetic audio": best.without,
        "Best with synthetic audio": best.synthetic,
        "Control: best with corpus clips": best.control,
    }
    return [
        (name, side, pair(side.learner, side.method, report))
        for name, side in sides.items()
        if side and len(report.learners) > 1
    ]


def delivered(report: Report) -> str:
    """What the delivered classifier is, in words."""
    told = report.delivered
    members = ", ".join(find_learner(name).title for name in told.members)
    named = find_learner(told.learner).title + (f" ({members})" if told.members != [told.learner] else "")
    return f"{named}; {title(told.method, report)}"


def ablations(report: Report) -> list[tuple[str, Range, bool]]:
    """Title of each ablation (the subject without a part), its difference from the subject, whether it is reliable."""
    found = {row.versus: row for row in report.differences if row.method == SUBJECT}
    return [
        (title(part, report), Range(mean=-row.mean, low=-row.high, high=-row.low), reliable(row) != 0)
        for part in ABLATIONS
        if (row := found.get(part))
    ]


def pretrained_on_corpus(plan: ReportPlan) -> bool:
    """Whether the run trained any model on its pretraining corpus."""
    config = RunConfig.model_validate(plan.run_config)
    judges = (config.pretrain_clap, config.pretrain_classifier)
    return config.pretrain_t2a.trains or any(judge.optim is not None for judge in judges)


def factor_lines(report: Report) -> list[Line]:
    """Mean validation score in percent by augmentation factor, a line for each method that tried several."""
    return [
        Line(title(name, report), [row.factor for row in rows], [100 * row.mean for row in rows])
        for name, rows in report.factors.methods.items()
    ]


def confusions(report: Report, shown: Shown) -> list[dict[str, object]]:
    """Confusion matrices in shares of each true class, with the three most frequent mistakes."""
    labels, tables = shown.labels, []
    for name, matrix in shown.confusions.items():
        shares = [[count / (sum(row) or 1) for count in row] for row in matrix]
        mistakes = [
            (-shares[i][j], labels[i], labels[j])
            for i, row in enumerate(matrix)
            for j, count in enumerate(row)
            if i != j and count
        ]
        tables.append(
            {
                "title": title(name, report),
                "rows": [list(zip(*row, strict=True)) for row in zip(matrix, shares, strict=True)],
                "worst": [(-share, true, heard) for share, true, heard in sorted(mistakes)[:3]],
                "numbered": len(labels) <= MAX_NUMBERED_CLASSES,
            }
        )
    return tables


def filter_charts(report: Report, shown: Shown) -> dict[str, Any]:
    """Histograms of CLAP score and margin with thresholds, overall, and by class for the thresholded figure.

    `planted` is the trial of the thresholds. `second` counts clips that both judges heard, and those that one or both
    rejected; None where there was no second judge. `second_planted` is its trial.
    """
    if not shown.candidates:
        return {"overall": {}}
    limits = [entry.threshold for _, entry in sorted(shown.thresholds.items())]
    bounds = {
        key: [bound for limit in limits if (bound := getattr(limit, f"min_{key}")) is not None] for key in _JUDGED
    }
    domains = {
        key: charts.span([getattr(c, key) for c in shown.candidates] + bounds[key], 0.05, 0.1) for key in _JUDGED
    }

    def chart(rows: Sequence[Candidate], key: str, label: str, bins: int) -> Markup:
        good, bad = ([getattr(c, key) for c in rows if c.accepted is kept] for kept in (True, False))
        return charts.histogram(good, bad, bounds[key], domains[key], _JUDGED[key], label, bins)

    def planted(kind: str) -> dict[str, float] | None:
        trials = [trial for entry in shown.thresholds.values() if (trial := getattr(entry, kind))]
        return {key: fmean([trial[key] for trial in trials]) for key in trials[0]} if trials else None

    deciding = "margin" if bounds["margin"] else "score"
    judged = [row.judged for row in report.rounds if row.judged]
    return {
        "overall": {name: chart(shown.candidates, key, "All classes", 28) for key, name in _JUDGED.items()},
        "classes": {
            label: chart([c for c in shown.candidates if c.label == label], deciding, label, 18)
            for label in sorted({c.label for c in shown.candidates})
        },
        "planted": planted("planted"),
        "second": {key: sum(getattr(row, key) for row in judged) for key in ("clips", "clap", "second", "both")}
        if judged
        else None,
        "second_planted": planted("second_planted"),
    }


def alignment(accounts: Mapping[str, Alignment]) -> list[dict[str, Any]]:
    """Accounts by replicate with curves, spectra, and distances before and after, for each kind of alignment."""
    kinds: dict[str, dict[int, Alignment]] = {}
    for name, account in accounts.items():
        replicate, kind = name.split("/")
        kinds.setdefault(kind, {})[int(replicate)] = account
    return [_aligned(dict(sorted(own.items()))) for _, own in sorted(kinds.items())]


def _aligned(own: Mapping[int, Alignment]) -> dict[str, Any]:
    accounts = list(own.values())
    spectra = {
        name: [fmean(band) for band in zip(*(getattr(each.spectra_db, key) for each in accounts), strict=True)]
        for key, name in _SPECTRA.items()
    }
    return {
        "accounts": own,
        "first": accounts[0],
        "curves": {
            what: lines
            for where, names in (("curve", _TRAINED), ("during", _WATCHED))
            for key, what in names.items()
            if (lines := _lines(own, where, key))
        },
        "spectra": [Line(name, list(range(len(means))), means) for name, means in spectra.items()],
        "distances": [
            (
                DISTANCES.get(key, key.replace("_", " ")),
                fmean(each.before[key] for each in accounts),
                fmean(each.after[key] for each in accounts),
            )
            for key in sorted(set.intersection(*(set(each.before) for each in accounts)))
        ],
    }


def _lines(own: Mapping[int, Alignment], where: str, key: str) -> list[Line]:
    return [
        Line(f"replicate {replicate}", [row["step"] for row in rows], [row[key] for row in rows])
        for replicate, account in own.items()
        if (rows := [row for row in getattr(account, where) if key in row])
    ]


def set_rows(report: Report, methods: Mapping[str, Method]) -> list[tuple[str, Heard | None, Distance | None]]:
    """Title of each synthetic set with the oracle's label accuracy and the distances to real clips, where known."""
    heard, far = report.oracle.sets if report.oracle else {}, report.distances.sets
    return [(set_title(name, methods), heard.get(name), far.get(name)) for name in _sets_in_order({*heard, *far})]


def _sets_in_order(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: (name != REFERENCE, name != "vanilla", name))


def set_title(name: str, methods: Mapping[str, Method]) -> str:
    """Display name of a set: `dpo-mixcap-filtered, accepted` → `Synthio, accepted`."""
    recipe, comma, rest = name.partition(",")
    users = [methods[m] for m in in_order(methods) if (made := methods[m].recipe) and made.name == recipe]
    own = [user.title for user in users if user.classic == "none"] or [user.title for user in users]
    return (own[0] if own else recipe.capitalize()) + comma + rest


def impossible(report: Report, methods: Mapping[str, Method]) -> list[tuple[str, str]]:
    """Titles of requested methods that were not trained for want of clips, and the reason."""
    tried = {*report.methods, *(row.method for row in report.failures)}
    return [
        (each.title, each.without_clips) for name, each in methods.items() if each.without_clips and name not in tried
    ]


def acoustic_rows(report: Report, methods: Mapping[str, Method]) -> tuple[list[tuple[str, AcousticSet]], bool]:
    """Sets of `acoustics` with titles, and whether a set is small; none where nothing was generated."""
    sets = report.acoustics.sets
    rows = [(set_title(name, methods), sets[name]) for name in _sets_in_order(sets)]
    return rows, min([report.acoustics.real_clips, *(row.clips for row in sets.values())]) < FEW
