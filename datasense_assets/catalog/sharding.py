"""Which organisations a code location serves, the same in Python and in SQL.

Each shard has a number for each organisation, and the highest one serves it (rendezvous hashing): an organisation that
comes moves no other, and a shard that comes takes its part from all others and moves nothing between them.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasense_assets.settings import Shard

# True for organisation `o` in the shard of the binds that `shard_binds` makes.
SHARD_CONDITION = """(:shard_count = 0 OR :shard_index = (
    SELECT i FROM generate_series(0, :shard_count - 1) i
    ORDER BY sha256(convert_to(o.slug || '/' || i, 'UTF8')) DESC LIMIT 1))"""


def shard_of(org_slug: str, count: int) -> int:
    """The index (0 to count - 1) of the shard that serves the organisation."""
    return max(range(count), key=lambda index: hashlib.sha256(f"{org_slug}/{index}".encode()).digest())


def shard_binds(shard: Shard | None) -> dict[str, int]:
    """Values for `SHARD_CONDITION`; None stands for all organisations."""
    if shard is None:
        return {"shard_count": 0, "shard_index": 0}
    return {"shard_count": shard.count, "shard_index": shard.index}
