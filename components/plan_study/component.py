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

    Args:
        cells: JSON list of {"dataset", "n"}.
        preset: preset of every cell: tiny, small, paper or smoke.
        methods: comma-separated methods; empty = the preset's.
        seeds: number of replicates.
        overrides: space-separated section.field=value pairs.
        budget: US dollars that the study may cost by estimate; 0 = no limit.
        history: history that the study belongs to as a night, whose work is kept apart; empty = no night.
        run_id: id of this run; scopes the work of a night.
        cells_per_run: most cells that the place of this run bears.
        code_version: hash of this stage's source, part of the cache key.
    """
    from components.plan_study.run import run

    return run(cells, preset, methods, int(seeds), overrides, budget, history, run_id, int(cells_per_run))
