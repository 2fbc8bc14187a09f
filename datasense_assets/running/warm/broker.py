"""The Redis that warm workers share: how to reach it, and what stands in it beside Celery's own queues.

Nothing in it is worth keeping: a queue holds a run for the blink between its leaving Dagster's queue and a worker's
taking it, and the rest are marks that are renewed every few seconds.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qs, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from datasense_assets.settings import Settings, get_settings

QUEUE_PREFIX = "datasense."
_LEASE, _CANCEL, _SLOTS, _SINCE = "datasense:lease:", "datasense:cancel:", "datasense:slots:", "datasense:since"
_SENT = "datasense:sent:"
# Longer than any run waits for its worker: Dagster's own `start_timeout_seconds` ends it before.
_SENT_SECONDS = 86_400

# How often a mark is renewed, and when one that was not is gone.
RENEW_SECONDS = 2.5
LIFETIME_SECONDS = 10.0
# So long after Redis has started, or lost its data, a missing mark says nothing.
SETTLING_SECONDS = LIFETIME_SECONDS + RENEW_SECONDS
_ANSWER_SECONDS = 5.0


class RedisUnavailable(Exception):
    """Redis cannot be used; `message` says why, without the password, `advice` what to do."""

    def __init__(self, message: str, *, advice: str) -> None:
        """Keep both parts."""
        super().__init__(f"{message} {advice}")
        self.message = message
        self.advice = advice


def redis_url(settings: Settings) -> str:
    """DATASENSE_REDIS_URL: `redis://`, `rediss://` (TLS) or `unix://` for a socket.

    Raises:
        RedisUnavailable: it is not set, or is no such URL.
    """
    if settings.redis_url is None:
        raise RedisUnavailable(
            "DATASENSE_REDIS_URL is not set, and warm workers get their runs over Redis.",
            advice="Set it, for example to redis://127.0.0.1:6379/0, for every process of the platform.",
        )
    url = settings.redis_url.get_secret_value()
    if urlsplit(url).scheme not in {"redis", "rediss", "unix"}:
        raise RedisUnavailable(
            "DATASENSE_REDIS_URL is not the URL of a Redis server.",
            advice="Write redis://:password@host:6379/0, rediss:// for TLS, or unix:///path/to/redis.sock.",
        )
    return url


def broker_url(url: str) -> str:
    """The URL as Celery writes it: a socket has another scheme, and TLS says that the server's name is checked."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return url.replace("unix://", "redis+socket://", 1).replace("?db=", "?virtual_host=")
    if parts.scheme == "rediss" and "ssl_cert_reqs" not in parse_qs(parts.query):
        return f"{url}{'&' if parts.query else '?'}ssl_cert_reqs=required"
    return url


@lru_cache(maxsize=4)
def connect(url: str) -> redis.Redis:
    """The process's client for the URL, safe in threads; nothing is asked before its first command.

    Safe after a fork: a child opens connections of its own and leaves its parent's alone.
    """
    # a socket file has no network under it that could fall silent
    network = {} if url.startswith("unix") else {"socket_keepalive": True}
    made = redis.Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=_ANSWER_SECONDS,
        socket_connect_timeout=_ANSWER_SECONDS,
        client_name="datasense",
        # once more, for a connection that a restarted server has closed; who asks knows what to do without an answer
        retry=Retry(NoBackoff(), 1),
        **network,
    )
    os.register_at_fork(after_in_child=made.connection_pool.reset)
    return made


def shared_redis() -> redis.Redis:
    """The client for DATASENSE_REDIS_URL."""
    return connect(redis_url(get_settings()))


def require_redis(settings: Settings) -> redis.Redis:
    """The client, once the server has answered.

    Raises:
        RedisUnavailable: it does not answer, refuses the login, or throws away keys when its memory is full.
    """
    url = redis_url(settings)
    client = connect(url)
    place = urlsplit(url)
    where = f"Redis at {place.hostname}:{place.port or 6379}" if place.hostname else f"Redis at {place.path}"
    try:
        client.ping()
        policy = str(client.info("memory").get("maxmemory_policy", "noeviction"))
    except redis.AuthenticationError:
        raise RedisUnavailable(f"{where} refuses the login.", advice="Check user and password in the URL.") from None
    except redis.RedisError as error:
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise RedisUnavailable(
            f"{where} does not answer: {_without_password(reason, url)}.",
            advice="Start it (`redis-server`), or correct DATASENSE_REDIS_URL.",
        ) from None
    if policy != "noeviction":
        raise RedisUnavailable(
            f"{where} throws away keys when its memory is full (maxmemory-policy {policy}), runs among them.",
            advice="Set maxmemory-policy to noeviction, or give the platform a Redis of its own.",
        )
    return client


def _without_password(text: str, url: str) -> str:
    password = urlsplit(url).password
    return text.replace(password, "***") if password else text


def queue_of(lane: str) -> str:
    """The Celery queue of a lane."""
    return QUEUE_PREFIX + lane


def lease_key(run_id: str) -> str:
    """Held by the worker that executes the run; its value says which."""
    return _LEASE + run_id


def cancel_key(run_id: str) -> str:
    """A list; what is pushed to it wakes the run's worker."""
    return _CANCEL + run_id


def sent_key(run_id: str) -> str:
    """There from before the run's message is sent until a worker holds the lease, unless Redis loses both."""
    return _SENT + run_id


def note_sent(client: redis.Redis, run_id: str) -> None:
    """Say that the run's message is on its way to a worker."""
    client.set(sent_key(run_id), 1, ex=_SENT_SECONDS)


def announce_slots(client: redis.Redis, worker: str, slots: dict[str, int]) -> None:
    """Say that a worker is there and how many runs of each lane it takes at once; holds for ten seconds."""
    pipe = client.pipeline(transaction=False)
    for lane, count in slots.items():
        pipe.set(f"{_SLOTS}{lane}:{worker}", count, px=int(LIFETIME_SECONDS * 1000))
    # since when the data is what it is: gone with it, and put back by whoever comes first
    pipe.set(_SINCE, int(client.time()[0]), nx=True)
    pipe.execute()


def withdraw_slots(client: redis.Redis, worker: str, slots: dict[str, int]) -> None:
    """Say that the worker takes no more runs."""
    client.delete(*(f"{_SLOTS}{lane}:{worker}" for lane in slots))


def slots_by_lane(client: redis.Redis) -> dict[str, int]:
    """How many runs the workers that are there take at once, by lane.

    Raises:
        redis.RedisError: Redis does not answer.
    """
    keys = list(client.scan_iter(match=f"{_SLOTS}*", count=1000))
    found: dict[str, int] = {}
    for key, count in zip(keys, client.mget(keys) if keys else (), strict=True):
        lane = key.removeprefix(_SLOTS).partition(":")[0]
        found[lane] = found.get(lane, 0) + int(count or 0)
    return found


def is_settling(client: redis.Redis) -> bool:
    """Whether Redis has just started or lost its data, so that marks of live workers may not be back yet."""
    info: Any = client.info("server")
    if int(info["uptime_in_seconds"]) < SETTLING_SECONDS:
        return True
    since = client.get(_SINCE)
    return since is None or int(client.time()[0]) - int(since) < SETTLING_SECONDS
