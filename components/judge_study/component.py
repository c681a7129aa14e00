from components.catalogue import component


@component("Judge the study", "base")
def judge_study(
    cells: str, preset: str, methods: str, seeds: int, overrides: str, history: str, run_id: str, code_version: str
) -> None:
    """Fail if the study has no report, or if it is a night that is worse than the nights before.

    Arguments that are not listed are parameters of the study (`pipelines/dags/benchmark.py`).

    Args:
        history: name of the history that holds the night; empty = no night.
        run_id: id of this run, under which the night was recorded.
    """
    from components.judge_study.run import run

    run(cells, preset, methods, int(seeds), overrides, history, run_id)
