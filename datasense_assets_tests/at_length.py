"""How many random examples a proof tries: few at each run of the suite, many with `DATASENSE_PROOF=deep`."""

from __future__ import annotations

import os

DEEP = os.environ.get("DATASENSE_PROOF") == "deep"


def examples(usual: int, deep: int | None = None) -> int:
    """So many, or with the deep profile `deep` (forty times as many)."""
    return (usual * 40 if deep is None else deep) if DEEP else usual
