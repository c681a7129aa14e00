"""Benchmark DAG: one ParallelFor runs the whole pipeline for each (dataset, n) cell; a report covers all cells.

The report must be made also when a cell failed, and KFP's backend bears this in one form only, an exit task: it becomes
a hook of the task before it. No task may depend on an exit task, an exit task on a loop itself, or a task beside it on
the same predecessor, and the failure of a hook is not the run's. Hence three nested pipelines: `study-cells` holds the
loop, `study-end` is the one exit task with all that must happen in any case, `study` holds both; and `judge-study`
after it makes the run fail by what the exit task found. `tests/contract/test_backend_rules.py` holds these rules.
"""

from typing import Any

from kfp import dsl

from common.study.cells import MAX_CELLS
from components.catalogue import STAGES
from components.judge_study.component import judge_study
from components.plan_study.component import plan_study
from components.record_cell.component import record_cell
from components.record_night.component import record_night
from components.report_study.component import report_study
from pipelines.cluster.placement import Profile
from pipelines.dags.synthio import placed, synthio_pipeline
from pipelines.sources import joint_code_version


def study_cells(profile: Profile) -> Any:
    """Build the loop over cells as a nested pipeline, so that the study's report runs even when a cell failed."""
    stage, synthio = placed(profile), synthio_pipeline(profile)

    @dsl.pipeline(name="study-cells")
    def cells_of_study(cells: list[dict], preset: str, methods: str, seeds: int) -> None:
        """Run the whole pipeline for each cell."""
        with dsl.ParallelFor(cells, name="cells", parallelism=profile.parallel_cells) as cell:
            run = synthio(
                dataset=cell.dataset,
                n=cell.n,
                data_version=cell.data_version,
                preset=preset,
                methods=methods,
                seeds=seeds,
                overrides=cell.overrides,
            )
            # Never cached: each run of a study has records of its own.
            stage(record_cell, results=run.outputs["results"], study=cell.study, key=cell.key).set_caching_options(
                False
            )

    return cells_of_study


def study_end(profile: Profile) -> Any:
    """Build the study's report, and the record of the night, as one nested pipeline: the exit task of the study."""
    stage = placed(profile)

    @dsl.pipeline(name="study-end")
    def end_of_study(cells: str, preset: str, methods: str, seeds: int, overrides: str, history: str) -> None:
        """Report the study, and record the night if the study is one."""
        asked = {"preset": preset, "methods": methods, "seeds": seeds, "overrides": overrides}
        run_id = dsl.PIPELINE_JOB_ID_PLACEHOLDER
        reported = stage(report_study, cells=cells, run_id=run_id, **asked).set_caching_options(False)
        with dsl.If(history != "", name="night"):
            stage(
                record_night,
                study=reported.outputs["study"],
                history=history,
                run_id=run_id,
                code=joint_code_version(STAGES),
                place=profile.description,
            ).set_caching_options(False)

    return end_of_study


def study_in_any_case(profile: Profile) -> Any:
    """Build the cells and their end as a nested pipeline, so that a task after it waits for both."""
    cells_of_study, end_of_study = study_cells(profile), study_end(profile)

    @dsl.pipeline(name="study")
    def whole_study(
        planned: list[dict], cells: str, preset: str, methods: str, seeds: int, overrides: str, history: str
    ) -> None:
        """Run all cells, then report them whether they succeeded or not."""
        asked = {"preset": preset, "methods": methods, "seeds": seeds}
        loop = cells_of_study(cells=planned, **asked).set_display_name("Cells")
        end = end_of_study(cells=cells, overrides=overrides, history=history, **asked)
        end.set_display_name("End of the study").after(loop).ignore_upstream_failure()

    return whole_study


def benchmark_pipeline(profile: Profile) -> Any:
    """Build the study's pipeline with tasks placed by `profile`."""
    stage, whole_study = placed(profile), study_in_any_case(profile)

    @dsl.pipeline(
        name="synthio-benchmark", description="Synthio on several datasets and sizes, beside the published table."
    )
    def benchmark(
        cells: str = '[{"dataset": "demo", "n": 50}, {"dataset": "demo", "n": 100}]',
        preset: str = "tiny",
        methods: str = "",
        seeds: int = 3,
        overrides: str = "",
        budget: float = 0.0,
        history: str = "",
    ) -> None:
        """Compare the methods on several datasets and numbers of training clips.

        Args:
            cells: JSON list of {"dataset": name, s3:// address or inline YAML, "n": number of training clips}.
            preset: tiny (CPU), small (one GPU) or paper (real checkpoints).
            methods: comma-separated methods; empty = the preset's.
            seeds: number of replicates.
            overrides: space-separated section.field=value pairs.
            budget: US dollars that the study may cost by estimate; 0 = no limit.
            history: name of a history of nights; the study is added to it and fails when it is worse than the nights
                before; empty = none.
        """
        run_id = dsl.PIPELINE_JOB_ID_PLACEHOLDER
        asked = {"cells": cells, "preset": preset, "methods": methods, "seeds": seeds, "overrides": overrides}
        most = profile.cells_per_run if profile.cluster else MAX_CELLS
        planned = stage(
            plan_study, budget=budget, history=history, run_id=run_id, cells_per_run=most, **asked
        ).set_caching_options(False)
        study = whole_study(planned=planned.output, history=history, **asked).set_display_name("Study")
        stage(judge_study, history=history, run_id=run_id).set_caching_options(False).after(study)

    return benchmark
