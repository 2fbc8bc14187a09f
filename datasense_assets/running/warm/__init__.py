"""Warm workers: runs inside processes that are there already, given out by Celery over Redis."""
