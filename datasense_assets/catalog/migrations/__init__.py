"""Alembic's folder of the catalog: `env.py` runs the scripts of `versions/`, in order, on the schema `datasense`."""
