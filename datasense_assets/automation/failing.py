"""What fails now, as a check of the catalog's asset: the longest failing first, each with what to do.

The alerts sensor reports it whenever it changes, so that it is always up to date and no run is spent on it; it can be
run by hand too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from datasense_assets.catalog.state.alerts import Trouble

CATALOG_KEY = dg.AssetKey(["_platform", "catalog"])
CHECK_NAME = "nothing_fails"
_MOST_SHOWN = 100


def failing_evaluation(failing: Sequence[Trouble]) -> dg.AssetCheckEvaluation:
    """The check's result: it passes while nothing fails."""
    result = failing_result(failing)
    return dg.AssetCheckEvaluation(
        asset_key=CATALOG_KEY,
        check_name=CHECK_NAME,
        passed=result.passed,
        severity=result.severity,
        description=result.description,
        metadata=result.metadata,
    )


def failing_result(failing: Sequence[Trouble]) -> dg.AssetCheckResult:
    """The same for a run of the check."""
    lines = ["| what | since (UTC) | why | what to do |", "|---|---|---|---|"]
    lines += [
        f"| {_cell(each.path)} | {each.since:%Y-%m-%d %H:%M} | {_cell(each.what)} | {_cell(each.advice)} |"
        if each.since is not None
        else f"| {_cell(each.path)} | | {_cell(each.what)} | {_cell(each.advice)} |"
        for each in failing[:_MOST_SHOWN]
    ]
    if len(failing) > _MOST_SHOWN:
        lines.append(f"| and {len(failing) - _MOST_SHOWN} more | | | `datasense status --failing` |")
    said = (
        "Nothing fails." if not failing else f"{len(failing)} sources and recipes fail, {failing[0].path} the longest."
    )
    return dg.AssetCheckResult(
        passed=not failing,
        description=said,
        metadata={"failing": len(failing), **({"inventory": dg.MetadataValue.md("\n".join(lines))} if failing else {})},
    )


def failing_content(failing: Sequence[Trouble]) -> str:
    """Changes when there is something else to report."""
    told = "\n".join(f"{each.path} {each.fingerprint} {each.since}" for each in failing)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
