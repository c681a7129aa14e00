"""Upload a dataset from this machine to the run store, for runs on a cluster (`make push-data DATASET=…`)."""

import argparse
import sys

from common.contracts.gold import Drop
from common.datasets.pushed import push_dataset
from common.datasets.registry import resolve_dataset
from common.errors import ConfigError
from common.storage import open_store, store_uri
from pipelines.commands.arguments import Wanted, bring

OPTIONS = {"--dataset": ..., "--fetch": "1", "--store": ""}


def run(options: argparse.Namespace) -> int:
    """Upload the dataset and print the address for `DATASET=`; exit status 0 = uploaded, 2 = it was not."""

    def tell(drop: Drop) -> None:
        print(f"left out: {drop.source}: {drop.reason} ({drop.detail})", file=sys.stderr)

    spec = resolve_dataset(options.dataset)
    if spec.reader == "procedural_demo" or spec.pushed is not None:
        raise ConfigError(f"dataset {spec.name} needs no files of this machine: use it as it is")
    bring([Wanted(options.dataset, spec, 0)], options.fetch == "1")
    spec = resolve_dataset(options.dataset)
    print(f"DATASET={push_dataset(spec, open_store(options.store or store_uri()).child('datasets'), tell)}")
    return 0
