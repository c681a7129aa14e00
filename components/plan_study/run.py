"""Reads the cells of a study, checks each cell and the total cost, writes the cells with overrides and record keys.

The idea of the stage: every mistake in a cell, and a cost above the budget, is found before the first cell starts.
Read next: `common/study/cells.py` (cells and their records), `common/study/costs.py` (the estimate).
"""

from typing import Any

from common.config.methods import resolve_methods
from common.config.run import load_preset
from common.datasets.registry import check_training_clips, find_dataset
from common.log import event, get_logger
from common.models.licences import check_use
from common.study.cells import MAX_CELLS, Records, check_cells_per_run, check_history, night_scope, parse_cells
from common.study.costs import check_budget, estimate

log = get_logger("plan_study")


def run(
    cells: str,
    preset: str,
    methods: str,
    replicates: int,
    overrides: str,
    budget: float,
    history: str,
    run_id: str,
    cells_per_run: int = MAX_CELLS,
) -> list[dict[str, Any]]:
    """Cells for the loop, each with its overrides and the key of its report; arguments as in `component.py`.

    Raises ConfigError: a name or number is wrong, a dataset is not to be found, a licence forbids the use, or the
    estimated cost exceeds the budget.
    """
    listed = parse_cells(cells)
    check_cells_per_run(len(listed), cells_per_run)
    check_history(history)
    config = load_preset(preset, overrides)
    chosen = resolve_methods(methods, config.methods)
    for cell in listed:
        spec = find_dataset(cell.dataset)
        check_use(config, spec)
        check_training_clips(spec, cell.n or spec.n)
    clips, clip_s = [cell.names()[1] for cell in listed], [cell.clip_s() for cell in listed]
    cost = estimate(clips, preset, chosen, replicates, clip_s=clip_s, config=config)
    check_budget(cost, budget)
    Records(run_id).begin()
    event(log, "planned", study=run_id, cells=len(listed), items=cost.items, hours=cost.hours, money=cost.money)
    # A night takes up no earlier work.
    own = f"{overrides} scope={night_scope(run_id)}".strip() if history else overrides
    return [{**cell.model_dump(mode="json"), "overrides": own, "study": run_id, "key": cell.key} for cell in listed]
