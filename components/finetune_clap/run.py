"""Reads CLAP and the gold clips, fine-tunes a copy per replicate, writes one directory each."""

import shutil
from pathlib import Path
from typing import Any

from common.config.clap import FinetuneClapPlan
from common.contracts.base import read, write
from common.contracts.generation import Finetuning
from common.runtime.stage import Figures, stage
from common.runtime.work import obtain_all
from common.storage.items import ItemStore

_NOT_COPIED = shutil.ignore_patterns("training.json")


def run(
    clap_path: str, gold_path: str, finetuned_path: str, metrics_path: str, *, config: dict[str, Any], code_version: str
) -> Figures:
    """Fine-tune CLAP per replicate; arguments as in `component.py`.

    Returns mean validation AUC before and after, and the number of replicates that kept the fine-tuned model.
    """
    plan = FinetuneClapPlan.model_validate(config)
    artifacts = {"clap": clap_path, "gold": gold_path}
    with stage("finetune_clap", config, metrics_path, {"finetuned": finetuned_path}, artifacts) as running:
        finetuned = Path(finetuned_path)
        account: dict[int, Finetuning] = {}
        if plan.settings.enabled:
            # Imported here, so that a run without fine-tuning does not load torch.
            from components.finetune_clap.finetuning import finetuning

            store = ItemStore("finetune_clap", code_version, scope=plan.scope)
            given = plan.settings, Path(clap_path), Path(gold_path), store
            for replicate, item in obtain_all({each: finetuning(each, *given) for each in plan.replicates}).items():
                shutil.copytree(item / "clap", finetuned / str(replicate), dirs_exist_ok=True)
                account[replicate] = read(Finetuning, item / "figures.json")
        else:
            for replicate in plan.replicates:
                shutil.copytree(clap_path, finetuned / str(replicate), dirs_exist_ok=True, ignore=_NOT_COPIED)
                account[replicate] = Finetuning(kept="pretrained", before={}, after={}, curve=[])
        write(finetuned / "finetune.json", account)
        running.record({"kept_finetuned": sum(row.kept == "finetuned" for row in account.values())})
        for moment in ("before", "after"):
            # Null where a replicate's validation clips allow no comparison.
            values = [auc for row in account.values() if (auc := getattr(row, moment).get("auc")) is not None]
            if values:
                running.record({f"auc_{moment}": sum(values) / len(values)})
    return running.figures
