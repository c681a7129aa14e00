"""Storage: atomic publishing on disk, and object stores on `file://` and `s3://` behind one interface.

Among the stages, only this package reads the environment:

- `SYNTHIO_STORE`: the run store, a folder, `file://…` or `s3://bucket/prefix`;
- `SYNTHIO_CACHE`: local copies of items from an S3 store; default: in the temporary folder;
- `SYNTHIO_DATA`: downloaded datasets; default: `data` beside the packages;
- `HF_HOME`: published models; default: as the hub's client;
- `AWS_ENDPOINT_URL_S3` (or `AWS_ENDPOINT_URL`): the URL of an S3-compatible store; without it, AWS;
- `AWS_REGION` (or `AWS_DEFAULT_REGION`).

boto3 itself reads the keys (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_PROFILE`, …) and
`AWS_CA_BUNDLE`.
"""

from common.storage.hashing import DamagedError
from common.storage.local import publish_dir, publish_file, read_json, write_bytes, write_json, write_text
from common.storage.objects import (
    STORE_VARIABLE,
    ObjectStore,
    cache_root,
    data_folder,
    hub_home,
    open_store,
    open_uri,
    split_uri,
    store_uri,
    whole_store,
)

__all__ = [
    "STORE_VARIABLE",
    "DamagedError",
    "ObjectStore",
    "cache_root",
    "data_folder",
    "hub_home",
    "open_store",
    "open_uri",
    "publish_dir",
    "publish_file",
    "read_json",
    "split_uri",
    "store_uri",
    "whole_store",
    "write_bytes",
    "write_json",
    "write_text",
]
