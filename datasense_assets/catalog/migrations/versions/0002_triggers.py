"""The triggers of the catalog: what a row implies is written by the database, whoever writes the row."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# Functions that write other tables run as the catalog's owner, so that a program with rights on `recipes` alone works.
_OWNER = "LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp"

_FIXED_NAMES = """
CREATE FUNCTION datasense.refuse_rename() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of datasense.% never changes: assets and warehouse tables are named after it',
        TG_ARGV[0], TG_TABLE_NAME
        USING ERRCODE = 'check_violation', HINT = 'Add a row with the new name and delete the old one.';
END $$
"""

_TIMEZONE = """
CREATE FUNCTION datasense.check_timezone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.timezone ~ '^(posix|right)/' OR NEW.timezone IN ('localtime', 'posixrules', 'Factory')
       OR NOT EXISTS (SELECT FROM pg_catalog.pg_timezone_names WHERE name = NEW.timezone) THEN
        RAISE EXCEPTION '"%" is no time zone', NEW.timezone
            USING ERRCODE = 'check_violation', HINT = 'Write an IANA name such as Asia/Kolkata.';
    END IF;
    RETURN NEW;
END $$
"""

_TABLE_NAMES = """
CREATE FUNCTION datasense.name_source_table() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    whole text;
BEGIN
    SELECT s.org_id, replace(s.slug || '__' || NEW.slug, '-', '_') INTO NEW.org_id, whole
    FROM datasense.sources s WHERE s.id = NEW.source_id;
    NEW.warehouse_name := CASE WHEN octet_length(whole) <= 63 THEN whole
        ELSE left(whole, 54) || '_' || left(encode(sha256(convert_to(whole, 'UTF8')), 'hex'), 8) END;
    RETURN NEW;
END $$
"""

_ORG_OF_SOURCE = """
CREATE FUNCTION datasense.org_of_source() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.source_id IS NOT NULL AND NEW.org_id IS NULL THEN
        SELECT s.org_id INTO NEW.org_id FROM datasense.sources s WHERE s.id = NEW.source_id;
    END IF;
    RETURN NEW;
END $$
"""

_TOUCH = """
CREATE FUNCTION datasense.touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END $$
"""

_SPEC_HASH = """
CREATE FUNCTION datasense.hash_spec() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.spec_hash := left(encode(sha256(convert_to(NEW.spec::text, 'UTF8')), 'hex'), 16);
    RETURN NEW;
END $$
"""

_STATUS_ROWS = f"""
CREATE FUNCTION datasense.add_status_row() RETURNS trigger {_OWNER} AS $$
BEGIN
    IF TG_TABLE_NAME = 'sources' THEN
        INSERT INTO datasense.source_status (source_id, next_due_at)
        VALUES (NEW.id, CASE WHEN NEW.schedule = '"manual"'::jsonb THEN NULL ELSE now() END);
    ELSIF TG_TABLE_NAME = 'source_tables' THEN
        INSERT INTO datasense.table_status (table_id) VALUES (NEW.id);
    ELSE
        INSERT INTO datasense.recipe_status (recipe_id) VALUES (NEW.id);
    END IF;
    RETURN NULL;
END $$
"""  # noqa: S608 - constants of ours

_REPLAN = f"""
CREATE FUNCTION datasense.ask_replan() RETURNS trigger {_OWNER} AS $$
BEGIN
    IF TG_TABLE_NAME = 'sources' THEN
        UPDATE datasense.source_status SET replan = true WHERE source_id = NEW.id;
    ELSE
        UPDATE datasense.source_status SET replan = true
        WHERE source_id IN (SELECT id FROM datasense.sources WHERE org_id = NEW.id);
    END IF;
    RETURN NULL;
END $$
"""  # noqa: S608 - constants of ours

_RECIPE_INPUTS = rf"""
CREATE FUNCTION datasense.keep_recipe_inputs() RETURNS trigger {_OWNER} AS $$
DECLARE
    named CONSTANT json := CASE WHEN json_typeof(NEW.spec -> 'inputs') = 'object'
                                THEN NEW.spec -> 'inputs' ELSE '{{}}'::json END;
BEGIN
    DELETE FROM datasense.recipe_inputs WHERE recipe_id = NEW.id;
    INSERT INTO datasense.recipe_inputs (recipe_id, alias, source_ident, table_ident, recipe_ident)
    SELECT NEW.id, given.alias, replace(part[1], '-', '_'), replace(part[2], '-', '_'), replace(part[3], '-', '_')
    FROM (SELECT key AS alias, regexp_match(value,
              '^(?:source:([a-z][a-z0-9_-]*)\.([A-Za-z0-9_-]+)|recipe:([a-z][a-z0-9_-]*))$') AS part
          FROM json_each_text(named)) given
    WHERE part IS NOT NULL
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$
"""  # noqa: S608 - constants of ours

_COUNT_REVISION = f"""
CREATE FUNCTION datasense.count_revision() RETURNS trigger {_OWNER} AS $$
DECLARE
    reached bigint;
BEGIN
    UPDATE datasense.revisions
    SET revision = revision + 1, changed_at = clock_timestamp(), counted_in = pg_current_xact_id()
    WHERE counted_in IS DISTINCT FROM pg_current_xact_id()
    RETURNING revision INTO reached;
    IF FOUND THEN
        PERFORM pg_notify('datasense_revision', reached::text);
    END IF;
    RETURN NULL;
END $$
"""  # noqa: S608 - constants of ours

_FUNCTIONS = [
    _FIXED_NAMES,
    _TIMEZONE,
    _TABLE_NAMES,
    _ORG_OF_SOURCE,
    _TOUCH,
    _SPEC_HASH,
    _STATUS_ROWS,
    _REPLAN,
    _RECIPE_INPUTS,
    _COUNT_REVISION,
]

# What a changed row is; json has no equality, so a recipe is compared by its text.
_CHANGED = "OLD.* IS DISTINCT FROM NEW.*"
_RECIPE_CHANGED = "(OLD.title, OLD.spec::text) IS DISTINCT FROM (NEW.title, NEW.spec::text)"
_COUNTED = ("organizations", "sources", "source_tables", "source_columns", "recipes")


def _fixed(table: str, column: str) -> str:
    return (
        f"CREATE TRIGGER a_fixed_{column} BEFORE UPDATE OF {column} ON datasense.{table} FOR EACH ROW "
        f"WHEN (OLD.{column} IS DISTINCT FROM NEW.{column}) EXECUTE FUNCTION datasense.refuse_rename('{column}')"
    )


def _changed(table: str) -> str:
    return _RECIPE_CHANGED if table == "recipes" else _CHANGED


def _counted(table: str) -> list[str]:
    # Deferred to the commit, so that the one row of `revisions` is locked for an instant and counts a transaction once.
    trigger = "CREATE CONSTRAINT TRIGGER z_revision_{when} AFTER {event} ON datasense.{table} "
    deferred = "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW {condition}EXECUTE FUNCTION datasense.count_revision()"
    return [
        (trigger + deferred).format(when="rows", event="INSERT OR DELETE", table=table, condition=""),
        (trigger + deferred).format(when="change", event="UPDATE", table=table, condition=f"WHEN ({_changed(table)}) "),
        f"CREATE TRIGGER z_revision_truncate AFTER TRUNCATE ON datasense.{table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION datasense.count_revision()",
    ]


def _triggers() -> list[str]:
    statements = [
        _fixed("organizations", "slug"),
        _fixed("sources", "slug"),
        _fixed("sources", "org_id"),
        _fixed("source_tables", "slug"),
        _fixed("source_tables", "source_id"),
        _fixed("recipes", "name"),
        _fixed("recipes", "org_id"),
        "CREATE TRIGGER b_timezone BEFORE INSERT OR UPDATE OF timezone ON datasense.organizations FOR EACH ROW "
        "WHEN (NEW.timezone <> 'UTC') EXECUTE FUNCTION datasense.check_timezone()",
        "CREATE TRIGGER b_names BEFORE INSERT OR UPDATE OF org_id, warehouse_name ON datasense.source_tables "
        "FOR EACH ROW EXECUTE FUNCTION datasense.name_source_table()",
        "CREATE TRIGGER b_spec_hash BEFORE INSERT OR UPDATE OF spec, spec_hash ON datasense.recipes "
        "FOR EACH ROW EXECUTE FUNCTION datasense.hash_spec()",
        "CREATE TRIGGER d_replan AFTER UPDATE OF schedule ON datasense.sources FOR EACH ROW "
        "WHEN (OLD.schedule IS DISTINCT FROM NEW.schedule) EXECUTE FUNCTION datasense.ask_replan()",
        "CREATE TRIGGER d_replan AFTER UPDATE OF timezone ON datasense.organizations FOR EACH ROW "
        "WHEN (OLD.timezone IS DISTINCT FROM NEW.timezone) EXECUTE FUNCTION datasense.ask_replan()",
        "CREATE TRIGGER d_inputs_new AFTER INSERT ON datasense.recipes FOR EACH ROW "
        "EXECUTE FUNCTION datasense.keep_recipe_inputs()",
        "CREATE TRIGGER d_inputs AFTER UPDATE OF spec ON datasense.recipes FOR EACH ROW "
        "WHEN (OLD.spec::text IS DISTINCT FROM NEW.spec::text) "
        "EXECUTE FUNCTION datasense.keep_recipe_inputs()",
    ]
    statements += [
        f"CREATE TRIGGER b_org BEFORE INSERT ON datasense.{table} FOR EACH ROW "
        "EXECUTE FUNCTION datasense.org_of_source()"
        for table in ("credentials", "pauses", "sync_requests")
    ]
    statements += [
        f"CREATE TRIGGER c_touch BEFORE UPDATE ON datasense.{table} FOR EACH ROW "
        f"WHEN ({_changed(table)}) EXECUTE FUNCTION datasense.touch()"
        for table in ("organizations", "sources", "recipes", "credentials")
    ]
    statements += [
        f"CREATE TRIGGER d_status AFTER INSERT ON datasense.{table} FOR EACH ROW "
        "EXECUTE FUNCTION datasense.add_status_row()"
        for table in ("sources", "source_tables", "recipes")
    ]
    for table in _COUNTED:
        statements += _counted(table)
    # A pause's reason and its next probe are no part of the graph; that it is there, is.
    statements.append(
        "CREATE CONSTRAINT TRIGGER z_revision AFTER INSERT OR DELETE OR UPDATE OF org_id, source_id "
        "ON datasense.pauses DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION datasense.count_revision()"
    )
    return statements


def upgrade() -> None:
    """Create the trigger functions and the triggers; names sort in the order in which they must run."""
    for statement in (*_FUNCTIONS, *_triggers()):
        op.execute(statement)
