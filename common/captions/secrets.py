"""Reading of API keys, here only. A key comes from the environment; in a pod, from a secret."""

import os

from pydantic import SecretStr

from common.config.captions import EndpointConfig
from common.errors import ConfigError


def read_key(variable: str) -> SecretStr | None:
    """Read the key from an environment variable; None when it is not set.

    Raises ConfigError: the key contains characters that an HTTP header cannot carry.
    """
    key = os.environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(f"the key in ${variable} holds characters that no HTTP header can carry; set it again")
    return SecretStr(key) if key else None


def check_key(endpoint: EndpointConfig) -> None:
    """Refuse an endpoint that costs money where no key is set; servers of one's own may need none.

    Raises ConfigError: the key is missing or malformed.
    """
    paid = endpoint.price_per_million_input or endpoint.price_per_million_output
    if paid and endpoint.base_url.startswith("https://") and read_key(endpoint.api_key_variable) is None:
        raise ConfigError(
            f"captions are written by {endpoint.base_url}, and ${endpoint.api_key_variable} is not set: set it, or "
            "name another writer (LLM_ENDPOINT=, or OVERRIDES='augment_captions.writer.backend=chat_model "
            "revise_captions.writer.backend=chat_model')"
        )
