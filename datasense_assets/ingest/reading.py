"""One read of one resource: pages to disk, rejected rows counted, and how far it got. No warehouse and no catalog."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from datasense_assets.catalog.models import ColumnType
from datasense_assets.catalog.state import DiscoveredTable
from datasense_assets.connectors.base import ROW_ID, Connector, ReadRequest, ReadStats, TableInfo
from datasense_assets.connectors.errors import BadData
from datasense_assets.ingest.boundary import Boundary
from datasense_assets.ingest.keeping import KeptPages
from datasense_assets.ingest.prepared import TablePath
from datasense_assets.ingest.scratch import SPECIAL_COLUMNS, RejectedScratch, TableScratch

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass
class ReadPages:
    """What a read brought: pages on disk by table, rejected rows, the last cursor."""

    rejected: RejectedScratch
    scratches: dict[TablePath, TableScratch] = field(default_factory=dict)
    cursor: str | None = None


def read_pages(
    connector: Connector,
    request: ReadRequest,
    slug: str,
    declared: Mapping[TablePath, Mapping[str, ColumnType]],
    folder: Path,
    boundary: Boundary,
    progress: Callable[[str, int], None] | None = None,
    kept: KeptPages | None = None,
) -> ReadPages:
    """Read all that is asked for. `declared`: types by key for each table; `progress` gets `slug` and rows read so far;
    `kept`: what an earlier attempt at the same had read, and where this one keeps what it reads.

    Raises:
        SourceError: the source could not be read, or a page is not as the contract of connectors says.
    """
    read = ReadPages(RejectedScratch(folder / "rejected.jsonl"))
    for page in connector.read(request) if kept is None else kept.read(connector, request):
        if page.path not in read.scratches:
            place = folder / f"pages-{len(read.scratches):03d}"
            read.scratches[page.path] = TableScratch(place, declared.get(page.path, {}))
        _check_page(page.data, page.path, slug)
        read.scratches[page.path].add(page.data)
        if connector.has_history:
            boundary.add(page.path, page.data)
        read.rejected.add(page.rejected)
        read.cursor = page.cursor if page.cursor is not None else read.cursor
        if progress is not None and not page.path:
            progress(slug, read.scratches[()].rows)
    for scratch in read.scratches.values():
        scratch.close()
    read.rejected.close()
    return read


def _check_page(data: pa.Table, path: TablePath, slug: str) -> None:
    needed = SPECIAL_COLUMNS if path else (ROW_ID,)
    for name in needed:
        if name not in data.column_names or data[name].null_count:
            where = "/".join((slug, *path))
            raise BadData(f"A page of {where} has rows without {name}.", advice="This is a fault of the connector.")


def discovered(infos: Mapping[TablePath, TableInfo]) -> list[DiscoveredTable]:
    """Descriptions of tables as the catalog takes them."""
    return [DiscoveredTable(i.resource, i.title, i.path, i.history_start) for i in infos.values()]


def copy_stats(stats: ReadStats) -> ReadStats:
    """The counts as they are now."""
    return ReadStats(stats.api_calls, stats.bytes, stats.throttled_seconds, stats.padded_rows, list(stats.notes))


def stats_since(before: ReadStats, now: ReadStats) -> ReadStats:
    """What was counted between two moments, without the notes."""
    return ReadStats(
        now.api_calls - before.api_calls,
        now.bytes - before.bytes,
        now.throttled_seconds - before.throttled_seconds,
        now.padded_rows - before.padded_rows,
    )
