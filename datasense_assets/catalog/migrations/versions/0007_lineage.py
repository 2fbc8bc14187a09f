"""Which columns a recipe's columns are made of, and which it uses besides, as of the spec that was compiled last."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# Inputs are named as in recipe_inputs and not by id: a lineage may outlive the table that it names, and so it can never
# name a table of another organisation. Nothing here is part of the graph, so nothing counts the revision.
_TABLES = [
    """
    CREATE TABLE datasense.recipe_lineage (
        recipe_id bigint PRIMARY KEY REFERENCES datasense.recipes (id) ON DELETE CASCADE,
        spec_hash text NOT NULL,
        recorded_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    """
    CREATE TABLE datasense.recipe_columns (
        recipe_id bigint NOT NULL REFERENCES datasense.recipe_lineage (recipe_id) ON DELETE CASCADE,
        name text NOT NULL,
        type text NOT NULL CONSTRAINT recipe_columns_type_known
            CHECK (type IN ('text', 'integer', 'number', 'boolean', 'date', 'datetime', 'time', 'json')),
        position integer NOT NULL,
        personal boolean NOT NULL DEFAULT false,
        PRIMARY KEY (recipe_id, name)
    )
    """,
    """
    CREATE TABLE datasense.recipe_column_uses (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        recipe_id bigint NOT NULL REFERENCES datasense.recipe_lineage (recipe_id) ON DELETE CASCADE,
        column_name text,
        use text NOT NULL CONSTRAINT recipe_column_uses_use_known
            CHECK (use IN ('value', 'filter', 'join', 'group', 'sort', 'expand', 'named')),
        source_ident text,
        table_ident text,
        recipe_ident text,
        source_column text NOT NULL,
        CONSTRAINT recipe_column_uses_column FOREIGN KEY (recipe_id, column_name)
            REFERENCES datasense.recipe_columns (recipe_id, name) ON DELETE CASCADE,
        CONSTRAINT recipe_column_uses_value_has_column CHECK ((use = 'value') = (column_name IS NOT NULL)),
        CONSTRAINT recipe_column_uses_one_kind
            CHECK ((recipe_ident IS NULL) = (source_ident IS NOT NULL AND table_ident IS NOT NULL))
    )
    """,
    "CREATE INDEX recipe_column_uses_of_recipe ON datasense.recipe_column_uses (recipe_id)",
]


def upgrade() -> None:
    """Create the tables."""
    for statement in _TABLES:
        op.execute(statement)
