"""Rewrite the report of a finished local run with the current code (`make report RUN=…`)."""

from __future__ import annotations

import argparse
import inspect
import tempfile
from pathlib import Path
from typing import Any

from common.errors import DataError
from common.pages.times import insert_run_section
from common.storage import read_json, write_text
from pipelines.commands.arguments import place
from pipelines.local.run import read_run


def render(run_dir: Path) -> str:
    """Rewrite `report.html` and `report.json` of the run in `run_dir`; return the verdict.

    Raises:
        DataError: `run_dir` is no run, the run did not finish, or its artifacts were removed.
    """
    from components.report.run import run as write_report

    record = read_run(run_dir)
    inputs = _inputs(record)
    missing = [path for path in inputs.values() if not Path(path).is_dir()]
    if missing:
        raise DataError(
            f"artifacts of {run_dir} are gone ({missing[0]}); run the pipeline again: finished work is kept"
        )
    with tempfile.TemporaryDirectory() as scratch:
        outputs = {name: str(Path(scratch) / name) for name in ("results", "html", "markdown", "confusion", "metrics")}
        paths = {**inputs, **outputs}
        names = [name for name in inspect.signature(write_report).parameters if name not in ("config", "code_version")]
        write_report(
            *(paths[name.removesuffix("_path")] for name in names), config=record["report_config"], code_version=""
        )
        results = Path(outputs["results"])
        write_text(run_dir / "report.json", (results / "report.json").read_text(encoding="utf-8"))
        html = (results / "report.html").read_text(encoding="utf-8")
    write_text(run_dir / "report.html", insert_run_section(html, record))
    verdict: str = read_json(run_dir / "report.json")["verdict"]["text"]
    return verdict


def _inputs(record: dict[str, Any]) -> dict[str, str]:
    artifacts = record["artifacts"]
    last_filter = [name for name in artifacts if name.startswith("filter-audio")][-1:]
    # The last round's prompts include the captions' account of all rounds.
    last_writer = ["augment-captions", *(name for name in artifacts if name.startswith("revise-captions"))][-1]
    try:
        return {
            "evaluation": artifacts["evaluate-classifier"]["evaluation"],
            "gold": artifacts["prepare-dataset"]["gold"],
            "corpus": artifacts["prepare-corpus"]["corpus"],
            "t2a": artifacts["pretrain-t2a"]["t2a"],
            "aligned": artifacts["align-t2a"]["aligned"],
            "clap": artifacts["finetune-clap"]["finetuned"],
            "classifiers": artifacts["train-classifier"]["classifiers"],
            "captions": artifacts["caption-clips"]["captions"],
            "prompts": artifacts[last_writer]["prompts"],
            "vanilla": artifacts["synthesize-audio"]["synthetic"],
            "accepted": artifacts[last_filter[0]]["accepted"],
            "rejected": artifacts["filter-audio"]["rejected"],
        }
    except (KeyError, IndexError) as error:
        raise DataError(
            f"the run did not finish (no output of {error}); give the same make run-pipeline command again"
        ) from error


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--run", default="runs/latest", type=place)


def run(options: argparse.Namespace) -> int:
    """Rewrite the report and print its verdict and path; exit status 0 = written, 2 = there is no finished run."""
    print(render(options.run))
    print(f"report: {options.run / 'report.html'}")
    return 0
