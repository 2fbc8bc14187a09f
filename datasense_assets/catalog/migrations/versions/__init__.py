"""One module a migration, never edited after it was released; `catalog.migrate.HEAD` names the newest."""
