"""Put a dataset of this machine into the store of the cluster (`make push-data DATASET=…`)."""

from __future__ import annotations

import argparse
import sys

from common.datasets_registry import resolve_dataset
from common.errors import ConfigError, SynthioError
from common.log import Progress, get_logger
from common.pushed_dataset import push_dataset
from common.storage import open_store, store_uri


def main() -> int:
    """Entry point of `make push-data`; prints the address that `DATASET=` takes."""
    parser = argparse.ArgumentParser(prog="make push-data", description=__doc__)
    parser.add_argument("--dataset", required=True, help="a registered name, a dataset YAML or a folder")
    parser.add_argument("--store", default="", help="s3://bucket/prefix; default: SYNTHIO_STORE")
    options = parser.parse_args()
    bar: Progress | None = None

    def show(done: int, total: int) -> None:
        nonlocal bar
        bar = bar or Progress(get_logger("push_data"), "files", total)
        bar.advance()

    try:
        spec = resolve_dataset(options.dataset)
        if spec.reader == "procedural_demo" or spec.pushed is not None:
            raise ConfigError(f"dataset {spec.name} needs no files of this machine: use it as it is")
        print(f"DATASET={push_dataset(spec, open_store(options.store or store_uri()).child('datasets'), show)}")
    except SynthioError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
