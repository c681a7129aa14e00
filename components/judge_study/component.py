from components.catalogue import component


@component("Judge the study", "base")
def judge_study(
    cells: str, preset: str, methods: str, seeds: int, overrides: str, history: str, run_id: str, code_version: str
) -> None:
    """Fail if the study has no report, or if it is a night that is worse than the nights before.

    Args:
        cells: JSON list of {"dataset", "n"}, as given to the run.
        preset: preset of every cell.
        methods: comma-separated methods; empty = the preset's.
        seeds: number of replicates.
        overrides: space-separated section.field=value pairs.
        history: name of the history that holds the night; empty = no night.
        run_id: id of this run, under which the night was recorded.
        code_version: hash of this stage's source, part of the cache key.
    """
    from components.judge_study.run import run

    run(cells, preset, methods, int(seeds), overrides, history, run_id)
