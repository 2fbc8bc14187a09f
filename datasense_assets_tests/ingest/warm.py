"""All that a sync imports, imported once, before processes are forked for it."""

import datasense_assets_tests.ingest.dying
import datasense_assets_tests.ingest.quota_worker  # noqa: F401
