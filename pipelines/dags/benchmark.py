"""Benchmark DAG: one ParallelFor runs the whole pipeline for each (dataset, n) cell; a report covers all cells.

`python -m pipelines compile --pipeline benchmark` writes it to `build/benchmark.yaml`, with the parameters cells,
preset, methods, seeds, overrides, budget and history. The task `report-study` writes the artifact `study` with
study.html, study.md and study.json:

    {"schema": 1, "preset", "seeds": 3, "overrides", "methods": {name: title}, "state": "complete" | "incomplete",
     "cells": [{"dataset", "n", "state": "done" | "failed", "figure": "accuracy" | "map",
                "methods": {name: {"title", "accuracy": {"mean", "low", "high", "per_seed"}, "macro_f1": {…},
                                   "published": percent | null, "difference": {"mean", "low", "high"} | null}},
                "differences": [{"method", "versus", "mean", "low", "high", …}],
                "verdict": {"state", "text", "improved", "beats_classic"} | null, "failures": […],
                "factors": {method: [{"factor", "mean", "per_seed"}]}, "long_tail": {…} | null, "cost": […],
                "clip_sets": […],
                "seconds": 3600.0 | null}],
     "correction": {…}, "ablations": […],
     "win_rates": [{"method", "versus", "wins", "cells", "reliable", "worse"}],
     "curves": {dataset: {method: [{"n", "mean", "low", "high"}]}},
     "estimate": {"items", "hours", "gpu_hours", "cpu_hours", "storage_gb", "money", …},
     "failures": [{"dataset", "n", …}], "seconds": 5400.0}

`seconds` count from the start of the study; those of a cell end when its report was recorded, and are null when it
failed. `factors` are scores on validation clips. On one machine, `make benchmark` adds what only the runner knows:
`real` (hours, money, machine, tasks, reused) and for each cell `stages` (seconds by stage), `machine`,
`seconds_per_point`, and the stage and error of a failure.

Figures are fractions; `published` and `difference` are percent and percentage points.
"""

from typing import Any

from kfp import dsl
from kfp.dsl import Dataset

from components.catalogue import STAGES
from components.judge_night.component import judge_night
from components.plan_study.component import plan_study
from components.record_cell.component import record_cell
from components.record_night.component import record_night
from components.report_study.component import report_study
from pipelines.cluster.placement import Profile
from pipelines.dags.code_version import joint_code_version
from pipelines.dags.synthio import placed, synthio_pipeline


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
            # Never cached: planning a study clears the reports of an earlier attempt.
            stage(record_cell, results=run.outputs["results"], study=cell.study, key=cell.key).set_caching_options(
                False
            )

    return cells_of_study


def benchmark_pipeline(profile: Profile) -> Any:
    """Build the study's pipeline with tasks placed by `profile`."""
    stage, cells_of_study = placed(profile), study_cells(profile)

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
    ) -> Dataset:
        """Compare the methods on several datasets and numbers of training clips.

        Args:
            cells: JSON list of {"dataset": name, s3:// address or inline YAML, "n": number of training clips}.
            preset: tiny (CPU), small (one GPU) or paper (real checkpoints).
            methods: comma-separated methods; empty = the default six.
            seeds: number of replicates.
            overrides: space-separated section.field=value pairs.
            budget: US dollars that the study may cost by estimate; 0 = no limit.
            history: name of a history of nights; the study is added to it and fails when it is worse than the nights
                before; empty = none.
        """
        run_id = dsl.PIPELINE_JOB_ID_PLACEHOLDER
        asked = {"preset": preset, "methods": methods, "seeds": seeds}
        planned = stage(
            plan_study, cells=cells, overrides=overrides, budget=budget, history=history, run_id=run_id, **asked
        ).set_caching_options(False)
        loop = cells_of_study(cells=planned.output, **asked)
        reported = stage(report_study, cells=cells, overrides=overrides, **asked).set_caching_options(False).after(loop)
        study = reported.ignore_upstream_failure().outputs["study"]
        with dsl.If(history != "", name="night"):
            night = stage(
                record_night,
                study=study,
                history=history,
                run_id=run_id,
                code=joint_code_version(STAGES),
                place=profile.description,
            ).set_caching_options(False)
            stage(judge_night, night=night.outputs["night"]).set_caching_options(False)
        return study

    return benchmark
