"""Alerts: what is wrong becomes one message to whom it concerns, and another only when it changes or is over.

`planning` compares what is wrong with what was told and writes messages into the catalog; `timing` says when one may
be sent; `delivery` sends them through Apprise; `sensor` does both, outside of any run.
"""
