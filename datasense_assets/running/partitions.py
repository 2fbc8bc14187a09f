"""Partition definitions, interned: sources with equal grain, start and time zone share one object."""

from __future__ import annotations

from datetime import date
from functools import cache

import dagster as dg

from datasense_assets.catalog.models import Grain, Organization, Source


@cache
def partitions_definition(every: Grain, start: date, timezone: str) -> dg.TimeWindowPartitionsDefinition:
    """Time partitions from `start` up to and with the one that is running now."""
    day = start.isoformat()
    match every:
        case Grain.HOUR:
            return dg.HourlyPartitionsDefinition(start_date=f"{day}-00:00", timezone=timezone, end_offset=1)
        case Grain.DAY:
            return dg.DailyPartitionsDefinition(start_date=day, timezone=timezone, end_offset=1)
        case Grain.WEEK:
            return dg.WeeklyPartitionsDefinition(start_date=day, timezone=timezone, end_offset=1)
        case Grain.MONTH:
            first = start.replace(day=1).isoformat()
            return dg.MonthlyPartitionsDefinition(start_date=first, timezone=timezone, end_offset=1)


def source_partitions(org: Organization, source: Source) -> dg.TimeWindowPartitionsDefinition:
    """The partitions of a source: from its declared start, else its first data, else the day it was added."""
    return partitions_definition(source.partitions.every, source.first_day, org.timezone)
