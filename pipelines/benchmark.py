"""The benchmark DAG: (dataset, n) cells over one ParallelFor, each the same pipeline, and a report of all of them.

Parameters of `build/benchmark.yaml` (`python -m pipelines.compile --pipeline benchmark`): cells, preset, methods,
seeds, overrides, budget. The task `report-study` leaves the artifact `study` with study.html, study.md and study.json:

    {"schema": 1, "preset", "seeds": 3, "methods": ["gold", …], "state": "complete" | "incomplete",
     "cells": [{"dataset", "n", "state": "done" | "failed", "figure": "accuracy" | "map",
                "methods": {name: {"title", "accuracy": {"mean", "low", "high", "per_seed"}, "macro_f1": {…},
                                   "published": percent | null, "difference": {"mean", "low", "high"} | null}},
                "differences": [{"method", "versus", "mean", "low", "high", …}],
                "verdict": {"state", "text", "improved", "beats_classic"} | null, "failures": […]}],
     "win_rates": [{"method", "versus", "wins", "cells", "reliable", "worse"}],
     "curves": {dataset: {method: [{"n", "mean", "low", "high"}]}},
     "estimate": {"items", "hours", "gpu_hours", "cpu_hours", "storage_gb", "money", …},
     "failures": [{"dataset", "n", …}]}

Figures are fractions; `published` and `difference` are percent and percentage points.
"""

from typing import Any

from kfp import dsl
from kfp.dsl import Dataset

from components.plan_study.component import plan_study
from components.record_cell.component import record_cell
from components.report_study.component import report_study
from pipelines.placement import Profile
from pipelines.synthio import placed, synthio_pipeline


def study_cells(profile: Profile) -> Any:
    """The loop as a pipeline of its own: the study's report waits for it and runs also when a cell failed."""
    stage, synthio = placed(profile), synthio_pipeline(profile)

    @dsl.pipeline(name="study-cells")
    def cells_of_study(cells: list[dict], preset: str, methods: str, seeds: int, overrides: str) -> None:
        """Run the whole pipeline for each cell."""
        with dsl.ParallelFor(cells, name="cells", parallelism=profile.parallel_cells) as cell:
            run = synthio(
                dataset=cell.dataset,
                n=cell.n,
                data_version=cell.data_version,
                preset=preset,
                methods=methods,
                seeds=seeds,
                overrides=overrides,
            )
            # Not from KFP's cache: planning a study clears the reports of an earlier attempt.
            stage(record_cell, results=run.outputs["results"], study=cell.study, key=cell.key).set_caching_options(
                False
            )

    return cells_of_study


def benchmark_pipeline(profile: Profile) -> Any:
    """The whole study, its tasks placed as `profile` says."""
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
    ) -> Dataset:
        """Compare the methods on several datasets and numbers of training clips.

        Args:
            cells: JSON list of {"dataset": name or YAML, "n": number of training clips}.
            preset: tiny (CPU), small (one GPU) or paper (real checkpoints).
            methods: comma-separated methods; empty = the default six.
            seeds: number of replicates.
            overrides: space-separated section.field=value pairs.
            budget: US dollars that the study may cost by estimate; 0 = no limit.
        """
        asked = {"preset": preset, "methods": methods, "seeds": seeds, "overrides": overrides}
        planned = stage(plan_study, cells=cells, budget=budget, **asked).set_caching_options(False)
        loop = cells_of_study(cells=planned.output, **asked)
        reported = stage(report_study, cells=cells, **asked).set_caching_options(False).after(loop)
        return reported.ignore_upstream_failure().outputs["study"]

    return benchmark
