"""Names of columns: any script in, unique ASCII names of at most 63 bytes out, stable for life.

Only names are made here; where they are stored (catalog, comments) is the loader's matter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from datasense_assets.catalog.models import POSTGRES_NAME_BYTES, bounded_name

RESERVED_PREFIX = "_ds_"
_SYSTEM_COLUMNS = frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid", "oid"})
_NOT_WORD = re.compile(r"[^a-z0-9]+")


def column_name(key: str) -> str:
    """The name wanted for one key: transliterated, lower case, `_` for the rest; a leading `_` is kept."""
    name = _plain_name(key)
    return bounded_name(f"c_{name.lstrip('_')}" if _is_reserved(name) else name)


def may_not_have_its_name(key: str) -> bool:
    """Whether the column is named otherwise, its own name being one of the platform's, of dlt's or of Postgres's."""
    return _is_reserved(_plain_name(key))


def _plain_name(key: str) -> str:
    from anyascii import anyascii

    ascii_key = anyascii(key.strip()).lower()
    words = _NOT_WORD.sub("_", ascii_key).strip("_")
    if not words:
        return "column"
    if ascii_key.startswith("_"):
        return f"_{words}"
    return f"c_{words}" if words[0].isdigit() else words


def _is_reserved(name: str) -> bool:
    return name.startswith((RESERVED_PREFIX, "_dlt_")) or name in _SYSTEM_COLUMNS


def column_names(keys: Sequence[str], known: Mapping[str, str] | None = None) -> dict[str, str]:
    """Key to column name for every key, unique, in the order given.

    `known` maps keys that were named before to their names: those never change, and a name given to a key that the
    source no longer has is not given to another. Two keys never share a name.
    """
    names = dict(known or {})
    taken = set(names.values())
    for key in keys:
        if key in names:
            continue
        names[key] = _free(column_name(key), taken)
        taken.add(names[key])
    return {key: names[key] for key in keys}


def _free(name: str, taken: Iterable[str]) -> str:
    used = set(taken)
    candidate, number = name, 1
    while candidate in used:
        number += 1
        suffix = f"_{number}"
        candidate = bounded_name(name, POSTGRES_NAME_BYTES - len(suffix)) + suffix
    return candidate
