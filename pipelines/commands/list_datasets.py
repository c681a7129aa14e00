"""List the registered datasets with licence, split and state on this machine (`make list-datasets [JSON=1]`)."""

import argparse
import contextlib
from typing import Any

from common.config.dataset import DatasetSpec
from common.datasets.listing import root_of
from common.datasets.registry import dataset_names, resolve_dataset
from pipelines.commands.printing import print_json

OPTIONS = {"--json": False}


def describe(spec: DatasetSpec) -> dict[str, Any]:
    """Facts on a dataset for its choice.

    Returns name, source, licence, use, split, grouping, reader, multi_label, access, root, and `here`, whether it is on
    this machine (None = it needs no files).
    """
    native = spec.native
    root, here = root_of(spec) if native else None, False if native else None
    with contextlib.suppress(OSError):
        here = here if root is None else any(root.iterdir())
    return {
        "name": spec.name,
        "source": spec.source or "built in",
        "licence": spec.licence,
        "use": spec.use,
        "split": spec.split_rule or "not stated",
        "grouping": spec.grouping or "none",
        "reader": spec.reader,
        "multi_label": spec.multi_label,
        "access": spec.access if native else "built in",
        "root": str(root) if root else None,
        "here": here,
    }


def to_text(datasets: list[dict[str, Any]]) -> str:
    """Format the datasets for a terminal, one paragraph each."""
    lines = []
    for dataset in datasets:
        labels = ", several labels a clip" if dataset["multi_label"] else ""
        lines += [
            f"{dataset['name']} ({_state(dataset)})",
            f"  source    {dataset['source']}",
            f"  licence   {dataset['licence']} (use: {dataset['use']})",
            f"  split     {dataset['split']}",
            f"  grouping  {dataset['grouping']}",
            f"  reader    {dataset['reader']}{labels}",
        ]
    return "\n".join(lines)


def _state(dataset: dict[str, Any]) -> str:
    if dataset["here"] is None:
        return "built in"
    if dataset["here"]:
        return f"in {dataset['root']}"
    command = f"make fetch-data DATASET={dataset['name']}"
    return command if dataset["access"] == "download" else f"to be got by hand: {command} says how"


def run(options: argparse.Namespace) -> int:
    """Print the datasets as text or JSON; exit status 0."""
    datasets = [describe(resolve_dataset(name)) for name in dataset_names()]
    if options.json:
        print_json(datasets)
    else:
        print(to_text(datasets))
    return 0
