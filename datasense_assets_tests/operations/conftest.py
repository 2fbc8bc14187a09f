"""Operating the platform from the command line: the same command line as the catalog's tests."""

from __future__ import annotations

import os
import shutil

import pytest

from datasense_assets_tests.cli.conftest import CommandLine, datasense

__all__ = ["CommandLine", "datasense", "need"]


def need(program: str) -> str:
    """The path of a program that not every machine has: without it the test is skipped, where CI is true it fails."""
    found = shutil.which(program)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{program} is not installed here, and CI must have it")
        pytest.skip(f"{program} is not installed")
    return found
