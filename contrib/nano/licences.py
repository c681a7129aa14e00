"""Licences of recordings: which may go into weights that ship."""

from __future__ import annotations

import re

from common.errors import DataError

_REFUSED = re.compile(
    r"\bnc\b|non-?commercial|\bnd\b|no-?deriv|sampling|research|proprietary|all rights reserved", re.IGNORECASE
)
_FAMILIES = {
    "generated": r"^generated\b",
    "GPL": r"\bL?GPL\b",
    "CC BY-SA": r"\bby-sa\b|share ?alike|free art",
    "MPL": r"\bMPL\b",
    "CC BY": r"\bcc[ -]by\b|creative commons.* attribution|^attribution\b",
    "Artistic": r"\bartistic\b",
    "MIT": r"\bMIT\b",
    "CC0": r"\bcc0\b|creative commons 0",
    "public domain": r"public domain",
}
"""Families that allow use with attribution, by how they are written; a mixture counts as its first."""


def licence_family(text: str, where: str) -> str:
    """Family of a licence, such as `CC BY`; of several the one that asks most.

    Args:
        text: the licence, as written beside the recording.

    Raises DataError: it forbids commercial use or changed copies, or is unknown.
    """
    allowed = f"allowed in weights that ship: {', '.join(_FAMILIES)}; take the recording out of metadata.csv"
    if found := _REFUSED.search(text):
        raise DataError(f"{where}: licence {text!r} is refused ({found[0]}); {allowed}")
    for family, pattern in _FAMILIES.items():
        if re.search(pattern, text, re.IGNORECASE):
            return family
    raise DataError(f"{where}: licence {text!r} is unknown; {allowed}")
