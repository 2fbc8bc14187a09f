"""`datasense doctor`: adds up what is set against what there is, and says what cannot hold, with the sum."""

from datasense_assets.operations.doctor.examination import examine, log, say_at_start
from datasense_assets.operations.doctor.findings import Finding, Level, against_starting, worst

__all__ = ["Finding", "Level", "against_starting", "examine", "log", "say_at_start", "worst"]
