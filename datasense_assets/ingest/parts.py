"""What both halves of a load have to work with: the source, the warehouse and the catalog of one sync."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from psycopg import errors as pg_errors

from datasense_assets.catalog.models import Deletes, SourceTable, table_name
from datasense_assets.connectors.base import Connector
from datasense_assets.connectors.errors import BadConfig
from datasense_assets.ingest import claims
from datasense_assets.ingest.copying import FEW_ROWS
from datasense_assets.ingest.prepared import PreparedLoad, TableLoad
from datasense_assets.ingest.report import SyncPlan
from datasense_assets.ingest.schema import TableShape, ensure_tables, special_columns
from datasense_assets.warehouse.held import HeldConnection
from datasense_assets.warehouse.organizations import WarehouseTarget

if TYPE_CHECKING:
    from sqlalchemy import Engine


@dataclass
class SyncParts:
    """One source and where it is loaded to, under the lease with that `fence`; `warehouse` is opened when first asked.

    `progress` gets table and rows read.
    """

    plan: SyncPlan
    connector: Connector
    target: WarehouseTarget
    catalog: Engine
    fence: int
    progress: Callable[[str, int], None] | None = None
    warehouse: HeldConnection = field(init=False)

    def __post_init__(self) -> None:
        """Hold a connection to the target, which is not opened yet."""
        self.warehouse = HeldConnection(self.target)

    def ensure(self, prepared: PreparedLoad) -> None:
        """Make and widen the load's tables, once.

        Raises:
            FenceLost: another load of the table has begun since.
            BadConfig: something in the warehouse stands in the way, such as a view over a column that must widen.
        """
        if prepared.ensured:
            return
        shapes = [self.shape_of(each) for each in prepared.tables]
        try:
            with self.warehouse.transaction() as connection:
                claims.write(connection, prepared.claim)
                ensure_tables(connection, self.target.schema, shapes)
        except (pg_errors.FeatureNotSupported, pg_errors.DependentObjectsStillExist) as error:
            raise BadConfig(
                f"The columns of {prepared.top.warehouse_table} cannot take new types: {error.diag.message_primary}"
                f" ({error.diag.message_detail}).",
                advice="Drop the view that depends on the table, sync, and make it again.",
            ) from error
        prepared.ensured = True
        if sum(each.expected for each in prepared.tables) > FEW_ROWS:
            # what comes now takes its time, and connections of its own
            self.warehouse.close()

    def shape_of(self, load: TableLoad) -> TableShape:
        """How the table looks in the warehouse."""
        return TableShape(
            load.warehouse_table,
            load.table.title or load.info.title or load.table.slug,
            special_columns(bool(load.path), self.tracks_deletes),
            load.plan.columns,
            load.plan.conversions,
        )

    @property
    def tracks_deletes(self) -> bool:
        """Whether tables have `_ds_deleted_at`."""
        return self.plan.source.deletes is Deletes.MARK

    @property
    def is_live(self) -> bool:
        """Whether the load is of how things are now, and not of a part that is read again."""
        return not self.plan.again or not self.connector.has_history

    def warehouse_table(self, table: SourceTable) -> str:
        """The table's name in the warehouse."""
        return table_name(self.plan.source.slug, table.slug)
