"""Warm workers: the Redis between them and the queue, its clock and memory, and their slots against the limits."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from datasense_assets.operations.doctor.findings import Finding, Level, fine, note, wrong
from datasense_assets.operations.doctor.server import SKEW_NOTED, SKEW_WRONG
from datasense_assets.running.tags import Lane

if TYPE_CHECKING:
    from datasense_assets.running.limits import Limits
    from datasense_assets.settings import Settings


def look_at_redis(settings: Settings, limits: Limits) -> Iterator[Finding]:
    """Nothing, where no Redis is set: then a process is started for each run."""
    if settings.redis_url is None:
        return
    from redis import RedisError

    from datasense_assets.running.warm.broker import shared_redis, slots_by_lane

    client: Any = shared_redis()
    try:
        seconds, micros = client.time()
        policy = client.info("memory").get("maxmemory_policy", "noeviction")
        slots = slots_by_lane(client)
    except RedisError as error:
        said = f"It could not be looked at: {type(error).__name__}."
        yield Finding("redis", Level.UNSEEN, said, "Start it, or correct DATASENSE_REDIS_URL.")
        return
    skew = abs(datetime.now(UTC).timestamp() - seconds - micros / 1e6)
    said = f"This machine's clock and Redis' are {skew:.1f} s apart."
    if skew > SKEW_NOTED:
        yield (wrong if skew > SKEW_WRONG else note)(
            "redis", said, "Keep both by NTP: leases of runs are kept by them."
        )
    if policy != "noeviction":
        yield wrong("redis", f"maxmemory-policy of Redis is {policy}: it may drop runs.", "Set it to noeviction.")
    if skew <= SKEW_NOTED and policy == "noeviction":
        yield fine("redis", said)
    yield from _slots(slots, limits)


def _slots(slots: dict[str, int], limits: Limits) -> Iterator[Finding]:
    most = {lane: limits.of("lane", lane.value) for lane in Lane}
    words = {lane: "any number" if most[lane] is None else str(most[lane]) for lane in Lane}
    sums = ", ".join(f"{lane.value}: {slots.get(lane.value, 0)} slots, {words[lane]} runs" for lane in Lane)
    without = [lane.value for lane in Lane if not slots.get(lane.value)]
    if without:
        said = f"No warm worker takes {', '.join(without)}: such runs wait in the queue."
        yield note("slots", said, "datasense worker --lane LANE=SLOTS, if workers are to run now.", sums)
    elif 0 <= limits.total < sum(slots.values()):
        said = f"Workers have {sum(slots.values())} slots, and no more than {limits.total} runs go on at once."
        yield note("slots", said, f"datasense limits set total {sum(slots.values())}", sums)
    else:
        yield fine("slots", "Every lane has a worker.", sums)
