"""`datasense worker` with one task more: it looks through its process for words that no run may leave there."""

from __future__ import annotations

import gc
import json
import os
import sys
from typing import Any

from celery import shared_task

FOUND = "test:found"


@shared_task(name="look_for")  # type: ignore[untyped-decorator,unused-ignore]
def look_for(reversed_words: list[str]) -> None:
    """Tell over Redis where in this process the words stand; they come reversed, so as not to be found as asked."""
    from datasense_assets.running.warm.broker import shared_redis

    report = {"pid": os.getpid(), "environment": sorted(os.environ), "places": _places(reversed_words)}
    report["active_pipeline"], report["arrow_bytes"] = _dlt_and_arrow()
    shared_redis().rpush(FOUND, json.dumps(report))


def _places(reversed_words: list[str]) -> list[str]:
    gc.unfreeze()
    gc.collect()
    words = [word[::-1] for word in reversed_words]
    own = {id(words), id(sys._getframe())}
    found: list[str] = []
    for holder in gc.get_objects():
        if id(holder) in own:
            continue
        for value in gc.get_referents(holder):
            text = value if isinstance(value, str) else None
            if isinstance(value, bytes | bytearray):
                text = value.decode("latin-1")
            if text is not None and len(text) < 10_000_000 and any(word in text for word in words):
                found.append(f"{type(holder).__module__}.{type(holder).__name__} {str(holder)[:300]}: {text[:200]}")
    return found


def _dlt_and_arrow() -> tuple[bool, int]:
    import pyarrow as pa
    from dlt.common.configuration.container import Container
    from dlt.common.pipeline import PipelineContext

    container: Any = Container()
    active = PipelineContext in container and container[PipelineContext].is_active()
    return active, int(pa.total_allocated_bytes())


if __name__ == "__main__":
    from datasense_assets.cli.main import app

    sys.exit(app(sys.argv[1:], standalone_mode=False))
