"""Make or replace the nightly recurring run (`make schedule-nightly`)."""

from __future__ import annotations

import json
from typing import Any

from pipelines.cluster import Cluster

NAME = "synthio-nightly"
CRON = "0 0 2 * * *"
"""Seconds first: every night at two o'clock, UTC."""


def schedule(
    cluster: Cluster, pipeline: tuple[str, str], params: dict[str, Any], name: str = NAME, cron: str = CRON
) -> str:
    """One recurring run `name` of `pipeline`, enabled; older ones of that name are removed. Returns its id.

    Recurring runs cannot be changed in place: the new one is made disabled, the old ones deleted, and then the new one
    is enabled, so that at no time two are active, and a failure in between leaves at least one.

    Args:
        cluster: where.
        pipeline: ids of pipeline and version; compile it with `fresh=True`, since a night that finds its tasks cached
            would measure the cache, and the client's own switch does nothing for an uploaded version.
        params: of every run.
        name: of the recurring run; also of its experiment.
        cron: six fields, seconds first.
    """
    client = cluster.client
    experiment_id = cluster.experiment(name)
    made = cluster.ask(
        lambda: client.create_recurring_run(
            experiment_id,
            name,
            cron_expression=cron,
            max_concurrency=1,
            no_catchup=True,
            params=params,
            pipeline_id=pipeline[0],
            version_id=pipeline[1],
            enabled=False,
        ),
        attempts=1,
    )
    new = str(made.recurring_run_id)
    for old in _others(cluster, experiment_id, name, new):
        cluster.ask(lambda old=old: client.delete_recurring_run(old))  # type: ignore[misc]  # the loop's variable
    cluster.ask(lambda: client.enable_recurring_run(new))
    return new


def _others(cluster: Cluster, experiment_id: str, name: str, new: str) -> list[str]:
    found, token = [], ""
    equals = json.dumps({"predicates": [{"operation": "EQUALS", "key": "name", "stringValue": name}]})
    while True:
        page = cluster.ask(
            lambda token=token: cluster.client.list_recurring_runs(  # type: ignore[misc]  # the loop's variable
                page_token=token, page_size=100, experiment_id=experiment_id, filter=equals
            )
        )
        rows = page.recurring_runs or []
        found += [row.recurring_run_id for row in rows if row.display_name == name and row.recurring_run_id != new]
        token = page.next_page_token or ""
        if not token:
            return found
