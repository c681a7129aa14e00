"""A real S3 protocol server for tests: moto, in this process, in memory."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

BUCKET = "synthio-test"


@contextmanager
def s3_server() -> Iterator[str]:
    """The URL of a server on a free port, with the bucket `BUCKET`."""
    import boto3

    # A line per request costs more than the request.
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
    ).create_bucket(Bucket=BUCKET)
    try:
        yield url
    finally:
        server.stop()
