"""Draw the report of a finished local run again with the current code (`make report RUN=…`)."""

import argparse

from common.errors import DataError
from common.storage import read_json, write_text
from components.report.page import page_of
from pipelines.local.run import read_run

OPTIONS = {"--run": "runs/latest"}


def run(options: argparse.Namespace) -> int:
    """Write the page and print the run's verdict and the page's path; exit status 0.

    Raises DataError: there is no finished run.
    """
    record = read_run(options.run)
    if not (options.run / "page.json").is_file():
        raise DataError(
            f"no page.json in {options.run}: the run did not finish, or an older version made it; give the same make "
            "run-pipeline command again: finished work is kept"
        )
    write_text(options.run / "report.html", page_of(options.run, record))
    print(read_json(options.run / "report.json")["verdict"]["text"])
    print(f"report: {options.run / 'report.html'}")
    return 0
