"""Pages on disk: row ids that came twice are found in parts as they are all at once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datasense_assets.connectors.base import ROW_ID
from datasense_assets.ingest import scratch


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(ids=st.lists(st.text("ab1é", min_size=0, max_size=4), max_size=60), at_once=st.integers(1, 70))
def test_ids_that_came_twice(
    ids: list[str], at_once: int, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder: Path = tmp_path_factory.mktemp("pages")
    with monkeypatch.context() as patch:
        patch.setattr(scratch, "IDS_AT_ONCE", at_once)
        patch.setattr(scratch, "BATCH_ROWS", 7)
        pages = scratch.TableScratch(folder, {})
        for start in range(0, len(ids), 3):
            pages.add(pa.table({ROW_ID: pa.array(ids[start : start + 3], pa.string())}))
        pages.close()
        found = pages.duplicates()
    counts = Counter(ids)
    often = {each for each, count in counts.items() if count > 1}
    assert found.last == {each: max(i for i, other in enumerate(ids) if other == each) for each in often}
    assert found.surplus == len(ids) - len(counts)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(ids=st.lists(st.integers(0, 12) | st.integers(2**62, 2**64), max_size=12))
def test_rising_numbers_need_no_look_and_any_others_get_one(
    ids: list[int], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(scratch, "BATCH_ROWS", 3)
        pages = scratch.TableScratch(tmp_path_factory.mktemp("pages"), {})
        for start in range(0, len(ids), 2):
            pages.add(pa.table({ROW_ID: pa.array([str(each) for each in ids[start : start + 2]], pa.string())}))
        pages.close()
        found = pages.duplicates()
    assert found.surplus == len(ids) - len(set(ids))
    assert set(found.last) == {str(each) for each, count in Counter(ids).items() if count > 1}
