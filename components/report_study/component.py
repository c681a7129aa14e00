from kfp.dsl import HTML, Dataset, Markdown, Metrics, Output

from components.catalogue import component


@component("Report the study", "base")
def report_study(
    cells: str,
    preset: str,
    methods: str,
    seeds: int,
    overrides: str,
    run_id: str,
    code_version: str,
    study: Output[Dataset],
    html: Output[HTML],
    markdown: Output[Markdown],
    metrics: Output[Metrics],
) -> None:
    """Compare the measured cells with the published table, and name the cells that failed.

    Arguments that are not listed are parameters of the study (`pipelines/dags/benchmark.py`).

    Args:
        run_id: id of this run, under which its cells are recorded.
        study: study.json, study.html and study.md.
        html: the study's report, shown on the run's page.
        markdown: the tables, shown on the run's page.
    """
    from components.report_study.run import run

    metrics.metadata |= run(
        cells, preset, methods, int(seeds), overrides, run_id, study.path, html.path, markdown.path, metrics.path
    )
