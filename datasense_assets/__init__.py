"""DataSense assets: a Dagster code location in which rows of a catalog are the asset graph."""

import gc

# Every process here, also the daemon and the webserver, holds some 100,000 objects of Dagster's modules and up to a
# million of the graph, and they live as long as it does. Looking through them for garbage after each 700 new objects,
# as is Python's default, took a fifth of the imports and a third of what making a large location's snapshot takes. All
# of it is looked through once half a million have come on top, as many as a daemon drops each minute with its copy of
# 5,000 sources.
gc.set_threshold(50_000, 5, 2)
