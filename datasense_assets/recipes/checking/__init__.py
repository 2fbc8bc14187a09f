"""Checks at work: their names, their judgement of row counts, and running them on a table."""
