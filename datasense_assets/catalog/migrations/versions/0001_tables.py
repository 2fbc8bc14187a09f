"""The tables of the catalog, with the constraints that refuse what the platform would refuse."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_FUNCTIONS = [
    """
    CREATE FUNCTION datasense.is_secret_reference(reference jsonb) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
        SELECT CASE WHEN reference IS NULL OR jsonb_typeof(reference) <> 'object' THEN false
        ELSE (SELECT count(*) = 1 AND bool_and(key IN ('env', 'file', 'encrypted')
                     AND jsonb_typeof(value) = 'string' AND value #>> '{}' <> '')
              FROM jsonb_each(reference)) END
    $$
    """,
    """
    CREATE FUNCTION datasense.are_secret_references(list jsonb) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
        SELECT CASE WHEN list IS NULL OR jsonb_typeof(list) <> 'array' THEN false
        ELSE (SELECT coalesce(bool_and(datasense.is_secret_reference(value)), true) FROM jsonb_array_elements(list)) END
    $$
    """,
    """
    CREATE FUNCTION datasense.is_schedule(schedule jsonb) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
        SELECT CASE jsonb_typeof(schedule)
            WHEN 'string' THEN schedule #>> '{}' IN ('15min', 'hourly', 'daily', 'weekly', 'manual')
            WHEN 'object' THEN schedule ? 'cron' AND schedule - 'cron' = '{}'
                               AND jsonb_typeof(schedule -> 'cron') = 'string' AND btrim(schedule ->> 'cron') <> ''
            ELSE false END
    $$
    """,
]

_ORGANIZATIONS = [
    """
    CREATE TABLE datasense.organizations (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        slug text NOT NULL CONSTRAINT organizations_slug_once UNIQUE
            CONSTRAINT organizations_slug_form CHECK (slug ~ '^[a-z][a-z0-9-]{0,39}$'),
        name text NOT NULL CONSTRAINT organizations_name_given CHECK (btrim(name) <> ''),
        timezone text NOT NULL DEFAULT 'UTC',
        tier text NOT NULL DEFAULT 'standard'
            CONSTRAINT organizations_tier_known CHECK (tier IN ('standard', 'premium')),
        contacts jsonb NOT NULL DEFAULT '[]'
            CONSTRAINT organizations_contacts_are_secrets CHECK (datasense.are_secret_references(contacts)),
        warehouse jsonb CONSTRAINT organizations_warehouse_is_secret
            CHECK (warehouse IS NULL OR datasense.is_secret_reference(warehouse)),
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    """
    CREATE TABLE datasense.org_roles (
        org_id bigint PRIMARY KEY REFERENCES datasense.organizations (id) ON DELETE CASCADE,
        role_name text NOT NULL,
        password_encrypted text NOT NULL
    )
    """,
]

_SOURCES = [
    """
    CREATE TABLE datasense.sources (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        org_id bigint NOT NULL REFERENCES datasense.organizations (id) ON DELETE CASCADE,
        slug text NOT NULL
            CONSTRAINT sources_slug_form CHECK (slug ~ '^[a-z][a-z0-9-]{0,39}$')
            CONSTRAINT sources_slug_not_reserved CHECK (slug <> 'recipes'),
        connector text NOT NULL CONSTRAINT sources_connector_form CHECK (connector ~ '^[a-z][a-z0-9_]{0,39}$'),
        config jsonb NOT NULL DEFAULT '{}' CONSTRAINT sources_config_object CHECK (jsonb_typeof(config) = 'object'),
        schedule jsonb NOT NULL DEFAULT '"daily"'
            CONSTRAINT sources_schedule_form CHECK (datasense.is_schedule(schedule)),
        partition_every text NOT NULL DEFAULT 'day'
            CONSTRAINT sources_partition_known CHECK (partition_every IN ('hour', 'day', 'week', 'month')),
        partition_start date,
        deletes text NOT NULL DEFAULT 'ignore'
            CONSTRAINT sources_deletes_known CHECK (deletes IN ('ignore', 'mark', 'remove')),
        discover_all boolean NOT NULL DEFAULT true,
        created_on date NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')::date,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT sources_slug_once UNIQUE (org_id, slug),
        CONSTRAINT sources_id_of_org UNIQUE (id, org_id)
    )
    """,
    "CREATE UNIQUE INDEX sources_ident ON datasense.sources (org_id, replace(slug, '-', '_'))",
    """
    CREATE TABLE datasense.source_tables (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        source_id bigint NOT NULL,
        org_id bigint NOT NULL,
        slug text NOT NULL CONSTRAINT source_tables_slug_form
            CHECK (slug ~ '^[A-Za-z0-9_][A-Za-z0-9_-]*$' AND length(slug) <= 120),
        resource text NOT NULL CONSTRAINT source_tables_resource_given CHECK (resource <> ''),
        path text[] NOT NULL DEFAULT '{}',
        parent_id bigint,
        title text,
        types jsonb NOT NULL DEFAULT '{}' CONSTRAINT source_tables_types_object CHECK (jsonb_typeof(types) = 'object'),
        key text[] NOT NULL DEFAULT '{}',
        history_start date,
        warehouse_name text NOT NULL,
        position integer NOT NULL DEFAULT 0,
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT source_tables_warehouse_name_once UNIQUE (org_id, warehouse_name),
        CONSTRAINT source_tables_resource_once UNIQUE (source_id, resource, path),
        CONSTRAINT source_tables_id_of_source UNIQUE (id, source_id),
        CONSTRAINT source_tables_parent_has_path CHECK ((parent_id IS NULL) = (path = '{}')),
        CONSTRAINT source_tables_source FOREIGN KEY (source_id, org_id)
            REFERENCES datasense.sources (id, org_id) ON DELETE CASCADE,
        CONSTRAINT source_tables_parent FOREIGN KEY (parent_id, source_id)
            REFERENCES datasense.source_tables (id, source_id) ON DELETE CASCADE
    )
    """,
    "CREATE UNIQUE INDEX source_tables_ident ON datasense.source_tables (source_id, replace(slug, '-', '_'))",
    "CREATE INDEX source_tables_parent_id ON datasense.source_tables (parent_id) WHERE parent_id IS NOT NULL",
    """
    CREATE TABLE datasense.source_columns (
        table_id bigint NOT NULL REFERENCES datasense.source_tables (id) ON DELETE CASCADE,
        name text NOT NULL CONSTRAINT source_columns_name_fits CHECK (octet_length(name) BETWEEN 1 AND 63),
        key text NOT NULL,
        label text NOT NULL,
        labels jsonb NOT NULL DEFAULT '{}' CONSTRAINT source_columns_labels_object
            CHECK (jsonb_typeof(labels) = 'object'),
        type text NOT NULL CONSTRAINT source_columns_type_known
            CHECK (type IN ('text', 'integer', 'number', 'boolean', 'date', 'datetime', 'time', 'json')),
        position integer NOT NULL,
        choices jsonb NOT NULL DEFAULT '[]' CONSTRAINT source_columns_choices_list
            CHECK (jsonb_typeof(choices) = 'array'),
        personal boolean NOT NULL DEFAULT false,
        PRIMARY KEY (table_id, name),
        CONSTRAINT source_columns_key_once UNIQUE (table_id, key)
    )
    """,
    """
    CREATE TABLE datasense.credentials (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        org_id bigint NOT NULL,
        source_id bigint NOT NULL,
        name text NOT NULL CONSTRAINT credentials_name_form CHECK (name ~ '^[a-z][a-z0-9_]{0,62}$'),
        reference jsonb NOT NULL
            CONSTRAINT credentials_reference_is_secret CHECK (datasense.is_secret_reference(reference)),
        updated_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT credentials_name_once UNIQUE (source_id, name),
        CONSTRAINT credentials_source FOREIGN KEY (source_id, org_id)
            REFERENCES datasense.sources (id, org_id) ON DELETE CASCADE
    )
    """,
]

# A spec is json, not jsonb: the order of its inputs and columns has a meaning, and jsonb forgets it.
_RECIPES = [
    """
    CREATE TABLE datasense.recipes (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        org_id bigint NOT NULL REFERENCES datasense.organizations (id) ON DELETE CASCADE,
        name text NOT NULL CONSTRAINT recipes_name_form
            CHECK (name ~ '^[a-z][a-z0-9_-]{0,39}$' AND position('__' IN replace(name, '-', '_')) = 0),
        title text,
        spec json NOT NULL CONSTRAINT recipes_spec_object CHECK (json_typeof(spec) = 'object'),
        spec_hash text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT recipes_id_of_org UNIQUE (id, org_id)
    )
    """,
    "CREATE UNIQUE INDEX recipes_ident ON datasense.recipes (org_id, replace(name, '-', '_'))",
    """
    CREATE TABLE datasense.recipe_inputs (
        recipe_id bigint NOT NULL REFERENCES datasense.recipes (id) ON DELETE CASCADE,
        alias text NOT NULL,
        source_ident text,
        table_ident text,
        recipe_ident text,
        built_version bigint,
        PRIMARY KEY (recipe_id, alias),
        CONSTRAINT recipe_inputs_one_kind
            CHECK ((recipe_ident IS NULL) = (source_ident IS NOT NULL AND table_ident IS NOT NULL))
    )
    """,
]

_RUNNING = [
    """
    CREATE TABLE datasense.cursors (
        table_id bigint PRIMARY KEY REFERENCES datasense.source_tables (id) ON DELETE CASCADE,
        value text,
        boundary jsonb NOT NULL DEFAULT '{}',
        fence bigint NOT NULL DEFAULT 0,
        updated_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    """
    CREATE TABLE datasense.leases (
        source_id bigint PRIMARY KEY REFERENCES datasense.sources (id) ON DELETE CASCADE,
        owner text NOT NULL,
        fence bigint NOT NULL DEFAULT 1,
        expires_at timestamptz NOT NULL
    )
    """,
    """
    CREATE TABLE datasense.source_status (
        source_id bigint PRIMARY KEY REFERENCES datasense.sources (id) ON DELETE CASCADE,
        next_due_at timestamptz,
        replan boolean NOT NULL DEFAULT true,
        last_slot timestamptz,
        last_requested_at timestamptz,
        last_run_id text,
        last_started_at timestamptz,
        last_success_at timestamptz,
        last_failure_at timestamptz,
        failure_kind text,
        failure_message text,
        failure_advice text,
        failures_in_a_row integer NOT NULL DEFAULT 0,
        discovered_at timestamptz
    )
    """,
    """
    CREATE INDEX source_status_due ON datasense.source_status (next_due_at) WHERE next_due_at IS NOT NULL
    """,
    "CREATE INDEX source_status_replan ON datasense.source_status (source_id) WHERE replan",
    """
    CREATE TABLE datasense.table_status (
        table_id bigint PRIMARY KEY REFERENCES datasense.source_tables (id) ON DELETE CASCADE,
        data_version bigint NOT NULL DEFAULT 0,
        content_hash text,
        row_count bigint,
        rows_loaded bigint,
        rejected_rows bigint,
        fresh_as_of timestamptz,
        loaded_at timestamptz,
        changed_at timestamptz,
        run_id text
    )
    """,
    """
    CREATE TABLE datasense.recipe_status (
        recipe_id bigint PRIMARY KEY REFERENCES datasense.recipes (id) ON DELETE CASCADE,
        data_version bigint NOT NULL DEFAULT 0,
        row_count bigint,
        built_at timestamptz,
        changed_at timestamptz,
        spec_hash text,
        run_id text,
        last_requested_at timestamptz,
        failure_kind text,
        failure_message text,
        failed_at timestamptz,
        failures_in_a_row integer NOT NULL DEFAULT 0
    )
    """,
    """
    CREATE TABLE datasense.schema_changes (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        table_id bigint NOT NULL REFERENCES datasense.source_tables (id) ON DELETE CASCADE,
        at timestamptz NOT NULL DEFAULT now(),
        run_id text,
        kind text NOT NULL CONSTRAINT schema_changes_kind_known CHECK (kind IN ('added', 'removed', 'retyped')),
        column_name text NOT NULL,
        old_type text,
        new_type text
    )
    """,
    "CREATE INDEX schema_changes_of_table ON datasense.schema_changes (table_id, at DESC)",
    """
    CREATE TABLE datasense.pauses (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        org_id bigint NOT NULL REFERENCES datasense.organizations (id) ON DELETE CASCADE,
        source_id bigint,
        reason text NOT NULL DEFAULT '',
        paused_at timestamptz NOT NULL DEFAULT now(),
        paused_by text NOT NULL DEFAULT '',
        probe_at timestamptz,
        CONSTRAINT pauses_source FOREIGN KEY (source_id, org_id)
            REFERENCES datasense.sources (id, org_id) ON DELETE CASCADE
    )
    """,
    "CREATE UNIQUE INDEX pauses_once ON datasense.pauses (org_id, coalesce(source_id, 0))",
    """
    CREATE TABLE datasense.sync_requests (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        org_id bigint NOT NULL REFERENCES datasense.organizations (id) ON DELETE CASCADE,
        source_id bigint,
        recipe_id bigint,
        tables text[],
        partition_first text,
        partition_last text,
        full_reload boolean NOT NULL DEFAULT false,
        lane text NOT NULL DEFAULT 'interactive'
            CONSTRAINT sync_requests_lane_known
            CHECK (lane IN ('interactive', 'scheduled', 'transform', 'backfill')),
        requested_by text NOT NULL DEFAULT '',
        requested_at timestamptz NOT NULL DEFAULT now(),
        taken_at timestamptz,
        run_id text,
        error text,
        CONSTRAINT sync_requests_one_kind CHECK (source_id IS NULL OR recipe_id IS NULL),
        CONSTRAINT sync_requests_range_whole CHECK ((partition_first IS NULL) = (partition_last IS NULL)),
        CONSTRAINT sync_requests_tables_of_source CHECK (tables IS NULL OR source_id IS NOT NULL),
        CONSTRAINT sync_requests_source FOREIGN KEY (source_id, org_id)
            REFERENCES datasense.sources (id, org_id) ON DELETE CASCADE,
        CONSTRAINT sync_requests_recipe FOREIGN KEY (recipe_id, org_id)
            REFERENCES datasense.recipes (id, org_id) ON DELETE CASCADE
    )
    """,
    "CREATE INDEX sync_requests_waiting ON datasense.sync_requests (id) WHERE taken_at IS NULL",
    """
    CREATE TABLE datasense.revisions (
        only_row boolean PRIMARY KEY DEFAULT true CONSTRAINT revisions_only_row CHECK (only_row),
        revision bigint NOT NULL DEFAULT 0,
        changed_at timestamptz NOT NULL DEFAULT now(),
        counted_in xid8
    )
    """,
    "INSERT INTO datasense.revisions DEFAULT VALUES",
]


def upgrade() -> None:
    """Create the functions that constraints use, then the tables."""
    for statement in (*_FUNCTIONS, *_ORGANIZATIONS, *_SOURCES, *_RECIPES, *_RUNNING):
        op.execute(statement)
