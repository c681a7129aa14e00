"""Reads model, gold clips and losers, aligns one model per replicate and loss, writes plain diffusers pipelines."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.config.t2a import AlignT2APlan
from common.contracts import generation as contract
from common.contracts.base import read, write
from common.errors import DataError
from common.runtime.stage import Figures, stage
from common.runtime.work import item_of, perform
from common.storage.items import ItemStore

if TYPE_CHECKING:
    from components.align_t2a.alignment import Alignment

ACCOUNTS = "align.json"


def run(
    t2a_path: str,
    gold_path: str,
    losers_path: str,
    aligned_path: str,
    metrics_path: str,
    *,
    config: dict[str, Any],
    code_version: str,
) -> Figures:
    """Write pipelines `<replicate>/<alignment>/` and `align.json` to `aligned_path`; arguments as in `component.py`.

    Of several losses the entry in `align.json` is that of the best model.

    Returns distances to the gold set before and after alignment, means over the models. Raises DataError: an alignment
    failed; the others are stored.
    """
    plan = AlignT2APlan.model_validate(config)
    target = Path(aligned_path)
    with stage("align_t2a", config, metrics_path, {"aligned": aligned_path}) as running:
        accounts: dict[str, contract.Alignment] = {}
        items: list[Alignment] = []
        if plan.alignments:
            # Imported here, so that a run without aligned methods does not load torch.
            from components.align_t2a.alignment import plan_items

            running.verify({"t2a": t2a_path, "gold": gold_path, "losers": losers_path})
            store = ItemStore("align_t2a", code_version, scope=plan.scope)
            items = plan_items(plan, Path(t2a_path), Path(gold_path), Path(losers_path), store)
        errors = perform(dict(enumerate(items))).failures
        failures = {items[index].name: f"{type(error).__name__}: {error}" for index, error in errors.items()}
        names = list(dict.fromkeys(item.name for item in items))
        for name in names:
            if name in failures:
                continue
            made, accounts[name] = _best([item for item in items if item.name == name])
            shutil.copytree(made / "model", target / name, dirs_exist_ok=True)
        write(target / ACCOUNTS, contract.AlignAccount.model_validate({"failures": failures, **accounts}))
        if failures:
            name, reason = next(iter(failures.items()))
            raise DataError(
                f"{len(failures)} of {len(names)} alignments failed, first {name}: {reason}. The others are kept: "
                "the same command does the failed ones again"
            )
        running.record({"models": len(names)})
        running.record(_means(list(accounts.values())))
    return running.figures


def _best(items: list[Alignment]) -> tuple[Path, contract.Alignment]:
    """Folder and account of the item whose deciding figure ended smallest, the first among equals."""
    folders = [item_of(item) for item in items]
    accounts = [read(contract.Alignment, folder / "account.json") for folder in folders]
    if len(items) == 1:
        return folders[0], accounts[0]
    figures = [account.after[account.keep_best_by] for account in accounts]
    best = figures.index(min(figures))
    tried = {account.loss: figure for account, figure in zip(accounts, figures, strict=True)}
    return folders[best], accounts[best].model_copy(update={"tried": tried})


def _means(accounts: list[contract.Alignment]) -> Figures:
    if not accounts:
        return {}
    # A replicate without validation clips has no held-out error.
    before, after = [account.before for account in accounts], [account.after for account in accounts]
    names = sorted(set.intersection(*(set(account.before) for account in accounts)))
    return {
        **{
            f"{name}_{when}": sum(figures[name] for figures in found) / len(accounts)
            for name in names
            for when, found in (("before", before), ("after", after))
        },
        "stopped_early": sum(bool(account.stopped_by) for account in accounts),
        "kept_unaligned": sum(account.best_step == 0 for account in accounts),
    }
