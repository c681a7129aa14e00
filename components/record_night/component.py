from kfp.dsl import HTML, Dataset, Input, Metrics, Output

from components.catalogue import component


@component("Record the night", "base")
def record_night(
    study: Input[Dataset],
    history: str,
    run_id: str,
    code: str,
    place: str,
    code_version: str,
    night: Output[Dataset],
    html: Output[HTML],
    metrics: Output[Metrics],
) -> None:
    """Add a study to the history of nights and compare it with the good nights before it.

    Args:
        study: report of the study, from report_study.
        history: name of the history in the run store.
        run_id: id of this run; recording a run again replaces its night.
        code: hash of all stages' sources.
        place: description of the machine or cluster; times are compared within a place only.
        night: night.json and trend.html.
        html: the trend page, shown on the run's page.
    """
    from components.record_night.run import run

    metrics.metadata |= run(study.path, history, run_id, code, place, night.path, html.path, metrics.path)
