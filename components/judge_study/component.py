from components.catalogue import component


@component("Judge the study", "base")
def judge_study(history: str, run_id: str, code_version: str) -> None:
    """Fail if the study has no report, or if it is a night that is worse than the nights before.

    Args:
        history: name of the history that holds the night; empty = no night.
        run_id: id of this run, under which its cells and the night were recorded.
    """
    from components.judge_study.run import run

    run(history, run_id)
