from components.catalogue import component


@component("Check the study", "base")
def plan_study(
    cells: str,
    preset: str,
    methods: str,
    seeds: int,
    overrides: str,
    budget: float,
    history: str,
    run_id: str,
    cells_per_run: int,
    code_version: str,
) -> list[dict]:
    """Check every cell of a study and the total cost, before any cell starts.

    Arguments that are not listed are parameters of the study (`pipelines/dags/benchmark.py`).

    Args:
        history: history that the study belongs to as a night, whose work is kept apart; empty = no night.
        run_id: id of this run, under which its cells are recorded; scopes the work of a night.
        cells_per_run: most cells that the place of this run bears.
    """
    from components.plan_study.run import run

    return run(cells, preset, methods, int(seeds), overrides, budget, history, run_id, int(cells_per_run))
