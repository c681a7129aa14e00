"""The one place where a key is read. It comes from the environment: in a pod, from a secret."""

from __future__ import annotations

import os

from pydantic import SecretStr

from common.errors import ConfigError


def read_key(variable: str) -> SecretStr | None:
    """The key in the environment variable; None when it is not set.

    Raises:
        ConfigError: no HTTP header can carry it.
    """
    key = os.environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(f"the key in ${variable} holds characters that no HTTP header can carry; set it again")
    return SecretStr(key) if key else None
