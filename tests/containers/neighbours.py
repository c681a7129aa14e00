"""A caption writer and an S3 store in one container: the only addresses in the network of a stage under test."""

from __future__ import annotations

import json
import signal

from tests.kit.s3_server import s3_server
from tests.unit.captions.stub import good, serve

if __name__ == "__main__":
    with s3_server() as store, serve(good) as writer:
        print(json.dumps({"store": store, "writer": writer.url}), flush=True)
        signal.pause()
