"""What a worker has in memory before it has children, and the tests' own: all that a sync imports, imported once."""

import datasense_assets_tests.ingest.dying
import datasense_assets_tests.ingest.quota_worker  # noqa: F401
from datasense_assets.running.warm.preloading import preload

preload()
