"""Operating the platform from the command line: the same command line as the catalog's tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from datasense_assets.cli.metrics import open_lasting_instance
from datasense_assets_tests.cli.conftest import CommandLine, datasense

__all__ = ["CommandLine", "datasense", "need"]


@pytest.fixture(autouse=True)
def _no_instance_of_another_test() -> Iterator[None]:
    open_lasting_instance.cache_clear()
    yield
    open_lasting_instance.cache_clear()


def need(program: str) -> str:
    """The path of a program that not every machine has: without it the test is skipped, where CI is true it fails."""
    found = shutil.which(program)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{program} is not installed here, and CI must have it")
        pytest.skip(f"{program} is not installed")
    return found
