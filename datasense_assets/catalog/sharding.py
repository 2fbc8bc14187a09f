"""Which organisations a code location serves: a stable hash of the slug, the same in Python and in SQL."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasense_assets.settings import Shard

# True for organisation `o` in the shard of the binds that `shard_binds` makes.
SHARD_CONDITION = (
    "(:shard_count = 0 OR ('x' || left(encode(sha256(convert_to(o.slug, 'UTF8')), 'hex'), 15))::bit(60)::bigint"
    " % greatest(:shard_count, 1) = :shard_index)"
)


def shard_of(org_slug: str, count: int) -> int:
    """The index (0 to count - 1) of the shard that serves the organisation."""
    return int(hashlib.sha256(org_slug.encode()).hexdigest()[:15], 16) % count


def shard_binds(shard: Shard | None) -> dict[str, int]:
    """Values for `SHARD_CONDITION`; None stands for all organisations."""
    if shard is None:
        return {"shard_count": 0, "shard_index": 0}
    return {"shard_count": shard.count, "shard_index": shard.index}
