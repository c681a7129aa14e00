"""Reading of API keys, here only. A key comes from the environment; in a pod, from a secret."""

from __future__ import annotations

import os

from pydantic import SecretStr

from common.errors import ConfigError


def read_key(variable: str) -> SecretStr | None:
    """Read the key from an environment variable; None when it is not set.

    Raises:
        ConfigError: the key contains characters that an HTTP header cannot carry.
    """
    key = os.environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(f"the key in ${variable} holds characters that no HTTP header can carry; set it again")
    return SecretStr(key) if key else None
