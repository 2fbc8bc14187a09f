"""What exists: organisations, sources, tables, recipes, and what is known of their state, as rows of Postgres.

Nothing is imported here, so that the models stay cheap to import: take each name from its own module (`models`,
`snapshot`, `manifest`, `apply`, `delete`, `export`, `credentials`, `state`, `work`, `status`, `migrate`).
"""
