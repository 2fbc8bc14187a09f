"""What the catalog says of all sources and recipes at once: a few aggregate queries, whatever their number."""

from __future__ import annotations

from collections import Counter as Count
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from sqlalchemy import Connection, text

from datasense_assets.catalog.lateness import Late, late_recipes, late_sources
from datasense_assets.catalog.state import count_due
from datasense_assets.operations.metrics.runs import connector_label

# Organisations and hosts by name, at most; the rest are one label, so that a thousand make no thousand series.
MOST_NAMED = 50
REST = "_others"

_SIZES = """
SELECT (SELECT count(*) FROM datasense.organizations) AS organizations,
       (SELECT count(*) FROM datasense.sources) AS sources,
       (SELECT count(*) FROM datasense.source_tables) AS tables,
       (SELECT count(*) FROM datasense.recipes) AS recipes
"""
_FAILING = """
SELECT s.connector, coalesce(st.failure_kind, 'unknown') AS kind, count(*) AS number
FROM datasense.source_status st JOIN datasense.sources s ON s.id = st.source_id
WHERE st.failures_in_a_row > 0 GROUP BY 1, 2
UNION ALL
SELECT 'recipe', coalesce(failure_kind, 'unknown'), count(*)
FROM datasense.recipe_status WHERE failures_in_a_row > 0 GROUP BY 2
"""
_PAUSES = """
SELECT count(*) FILTER (WHERE paused_by = 'breaker') AS breakers,
       count(*) FILTER (WHERE paused_by = 'breaker' AND probe_at <= :now) AS probing,
       count(*) FILTER (WHERE paused_by <> 'breaker' AND source_id IS NOT NULL) AS sources,
       count(*) FILTER (WHERE paused_by <> 'breaker' AND source_id IS NULL) AS organizations
FROM datasense.pauses
"""
_BACKLOG = """
SELECT coalesce(extract(epoch FROM :now - min(st.next_due_at)), 0) AS oldest
FROM datasense.source_status st
WHERE st.next_due_at <= :now
  AND NOT EXISTS (SELECT FROM datasense.leases l WHERE l.source_id = st.source_id AND l.expires_at > :now)
  AND NOT EXISTS (SELECT FROM datasense.sources s JOIN datasense.pauses p ON p.org_id = s.org_id
                  WHERE s.id = st.source_id AND (p.source_id IS NULL OR p.source_id = s.id))
"""
_QUOTAS = """
SELECT name, host, count(*) AS accounts, sum(calls) AS calls, sum(refused) AS refused, sum(waited_seconds) AS waited,
       count(*) FILTER (WHERE blocked_until > :now) AS blocked,
       greatest(0, extract(epoch FROM max(blocked_until) - :now)) AS blocked_for,
       greatest(0, extract(epoch FROM max(spent_until) - :now)) AS spent_for,
       sum(allowed_calls / allowed_seconds) AS allowed
FROM datasense.quota_state GROUP BY name, host ORDER BY sum(calls) DESC
"""
_OTHERS = """
SELECT (SELECT count(*) FROM datasense.alert_messages WHERE sent_at IS NULL AND dropped_because IS NULL) AS unsent,
       (SELECT coalesce(extract(epoch FROM :now - min(send_after)), 0) FROM datasense.alert_messages
        WHERE sent_at IS NULL AND dropped_because IS NULL AND send_after <= :now) AS unsent_for,
       (SELECT count(*) FROM datasense.alerts WHERE closed_at IS NULL) AS alerts,
       (SELECT count(*) FROM datasense.sync_requests WHERE taken_at IS NULL) AS requests,
       (SELECT coalesce(extract(epoch FROM :now - min(coalesce(not_before, requested_at))), 0)
        FROM datasense.sync_requests WHERE taken_at IS NULL AND coalesce(not_before, requested_at) <= :now
        AND after_requests IS NULL) AS requests_for,
       (SELECT count(*) FROM datasense.leases WHERE expires_at > :now) AS leases
"""


def gauge(name: str, words: str, *values: tuple[tuple[str, ...], float], labels: tuple[str, ...] = ()) -> Metric:
    """A gauge with values by labels."""
    family = GaugeMetricFamily(name, words, labels=labels)
    for given, value in values:
        family.add_metric(given, float(value))
    return family


def catalog_metrics(connection: Connection, now: datetime) -> Iterator[Metric]:
    """Sizes, backlog, failures, pauses and breakers, freshness, quotas, requests and messages."""
    sizes = connection.execute(text(_SIZES)).mappings().one()
    values = (((what,), number) for what, number in sizes.items())
    yield gauge("datasense_catalog_rows", "What the catalog holds.", *values, labels=("what",))
    due = count_due(connection, now)
    reasons = ("waits", "running", "paused", "out_of_quota", "empty")
    yield gauge(
        "datasense_due_sources",
        "Sources whose time has come, by why no run was asked for.",
        *(((reason,), due.get(reason, 0)) for reason in reasons),
        labels=("reason",),
    )
    oldest = connection.execute(text(_BACKLOG), {"now": now}).scalar_one()
    words = "How long the longest due source has waited that is neither paused nor being loaded."
    yield gauge("datasense_due_oldest_seconds", words, ((), oldest))
    failing: Count[tuple[str, str]] = Count()
    for row in connection.execute(text(_FAILING)):
        failing[(connector_label(row.connector), row.kind)] += row.number
    yield gauge(
        "datasense_failing",
        "Sources and recipes whose last run failed, by connector (or recipe) and type of failure.",
        *failing.items(),
        labels=("connector", "kind"),
    )
    yield from _pauses(connection, now)
    yield from _freshness([*late_sources(connection, now)], [*late_recipes(connection, now)], now)
    yield from _quotas(connection, now)
    yield from _others(connection, now)


def _pauses(connection: Connection, now: datetime) -> Iterator[Metric]:
    row = connection.execute(text(_PAUSES), {"now": now}).one()
    yield gauge(
        "datasense_breakers",
        "Sources stopped by the platform after failing in a row: open, or due for a probe.",
        (("open",), row.breakers - row.probing),
        (("probing",), row.probing),
        labels=("state",),
    )
    yield gauge(
        "datasense_paused",
        "What people have paused.",
        (("source",), row.sources),
        (("organization",), row.organizations),
        labels=("what",),
    )


def _freshness(sources: list[Late], recipes: list[Late], now: datetime) -> Iterator[Metric]:
    yield gauge(
        "datasense_late",
        "Sources and recipes that break their promise of freshness though they neither fail nor are paused.",
        (("source",), len(sources)),
        (("recipe",), len(recipes)),
        labels=("what",),
    )
    since = [each.since for each in (*sources, *recipes)]
    worst = (now - min(since)).total_seconds() if since else 0.0
    yield gauge("datasense_late_longest_seconds", "By how much the latest of them is over its promise.", ((), worst))
    by_org = Count(each.org_slug for each in (*sources, *recipes)).most_common()
    named = [((org,), number) for org, number in by_org[:MOST_NAMED]]
    rest = sum(number for _, number in by_org[MOST_NAMED:])
    words = f"The same by organisation: the {MOST_NAMED} with most by name, all others as {REST}."
    yield gauge("datasense_late_by_org", words, *named, *([((REST,), rest)] if rest else []), labels=("org",))


def _quotas(connection: Connection, now: datetime) -> Iterator[Metric]:
    labels = ("quota", "host")
    calls = CounterMetricFamily("datasense_api_calls", "Calls to sources' servers, by quota and host.", labels=labels)
    refused = CounterMetricFamily(
        "datasense_api_waits", "How often a call had to wait for its quota or its server.", labels=labels
    )
    waited = CounterMetricFamily("datasense_api_wait_seconds", "For how long those were told to wait.", labels=labels)
    allowed = GaugeMetricFamily(
        "datasense_quota_allowed_calls_per_second", "Calls a second that all accounts together may make.", labels=labels
    )
    blocked = GaugeMetricFamily(
        "datasense_quota_blocked_accounts", "Accounts that the server has asked to leave it alone.", labels=labels
    )
    blocked_for = GaugeMetricFamily(
        "datasense_quota_blocked_seconds", "For how long the longest of them must wait.", labels=labels
    )
    spent_for = GaugeMetricFamily(
        "datasense_quota_spent_ahead_seconds", "How far ahead the most used account has spent its calls.", labels=labels
    )
    rows = connection.execute(text(_QUOTAS), {"now": now}).all()
    totals: dict[tuple[str, str], list[float]] = {}
    for place, row in enumerate(rows):
        key = (row.name, row.host if place < 2 * MOST_NAMED else REST)
        values = [row.calls, row.refused, row.waited, row.allowed or 0, row.blocked, row.blocked_for, row.spent_for]
        before = totals.get(key, [0.0] * len(values))
        summed = [float(a) + float(b) for a, b in zip(before[:5], values[:5], strict=True)]
        longest = [max(float(a), float(b)) for a, b in zip(before[5:], values[5:], strict=True)]
        totals[key] = [*summed, *longest]
    families: tuple[Any, ...] = (calls, refused, waited, allowed, blocked, blocked_for, spent_for)
    for key, values in totals.items():
        for family, value in zip(families, values, strict=True):
            # a quota without a limit has nothing that could be used up
            if value or family is not allowed:
                family.add_metric(key, value)
    yield from families


def _others(connection: Connection, now: datetime) -> Iterator[Metric]:
    row = connection.execute(text(_OTHERS), {"now": now}).one()
    yield gauge("datasense_alerts_open", "Things that are wrong now and that people are told of.", ((), row.alerts))
    yield gauge("datasense_messages_unsent", "Messages that are yet to be sent.", ((), row.unsent))
    words = "How long the oldest message that could be sent has waited."
    yield gauge("datasense_messages_oldest_seconds", words, ((), row.unsent_for))
    yield gauge(
        "datasense_requests_waiting", "Runs that people asked for and that are yet to be made.", ((), row.requests)
    )
    words = "How long the oldest of them has waited."
    yield gauge("datasense_requests_oldest_seconds", words, ((), row.requests_for))
    yield gauge("datasense_sources_loading", "Sources that a run holds the lease of.", ((), row.leases))
