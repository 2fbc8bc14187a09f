"""`datasense ...`: parse, call, print. What a command does lives in the rooms below; nothing here decides anything.

Modules import Dagster, dlt, ibis and the database only inside functions, so that `datasense --help` stays fast.
"""
