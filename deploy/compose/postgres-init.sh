#!/bin/sh
# Runs once, in an empty data folder: the platform's role and database, and what PgBouncer asks for passwords.
# Every organisation gets a login role of its own, so PgBouncer can have no list of them: it asks the server, through a
# function that answers for the platform's roles alone and never for a superuser.
set -eu
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
  --set platform_password="$DATASENSE_DB_PASSWORD" --set pooler_password="$PGBOUNCER_PASSWORD" <<'SQL'
CREATE ROLE datasense LOGIN CREATEROLE PASSWORD :'platform_password';
CREATE DATABASE datasense OWNER datasense;
CREATE ROLE pgbouncer LOGIN PASSWORD :'pooler_password';
REVOKE ALL ON DATABASE datasense FROM PUBLIC;
GRANT CONNECT ON DATABASE datasense TO pgbouncer;
SQL
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname datasense <<'SQL'
CREATE SCHEMA pgbouncer;
REVOKE ALL ON SCHEMA pgbouncer FROM PUBLIC;
GRANT USAGE ON SCHEMA pgbouncer TO pgbouncer;
CREATE FUNCTION pgbouncer.password_of(wanted text, OUT usename text, OUT passwd text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
  SELECT rolname::text, rolpassword::text FROM pg_authid
  WHERE rolname = wanted AND rolcanlogin AND NOT rolsuper AND (rolname = 'datasense' OR rolname LIKE 'org\_%')
$$;
REVOKE ALL ON FUNCTION pgbouncer.password_of FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pgbouncer.password_of TO pgbouncer;
SQL
