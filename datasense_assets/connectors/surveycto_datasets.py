"""SurveyCTO's server datasets (API v2): each is a table, read whole as CSV; a snapshot, since it keeps no history.

A dataset that says which of its fields is unique has its rows named by that; the rows of any other are named by their
number.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

from datasense_assets.connectors.addresses import shown
from datasense_assets.connectors.base import (
    ColumnInfo,
    Page,
    Quota,
    ReadRequest,
    TableInfo,
)
from datasense_assets.connectors.config import SurveyctoDatasetsConfig
from datasense_assets.connectors.csv_dialect import distinct_keys, read_header
from datasense_assets.connectors.csv_rows import CsvRows
from datasense_assets.connectors.csv_text import as_utf8
from datasense_assets.connectors.errors import AccessForbidden, BadConfig, BadData, ResourceGone, Unavailable
from datasense_assets.connectors.http_connector import HttpConnector
from datasense_assets.connectors.personal import looks_personal
from datasense_assets.connectors.row_pages import NamedReader, read_pages
from datasense_assets.connectors.surveycto_server import (
    ONE_AT_A_TIME,
    one_at_a_time,
    refusals,
    temporary_file,
)

DATASETS_A_CALL = 1000
MOST_DATASETS = 100_000
_HEAD_BYTES = 1 << 20
Json = Mapping[str, Any]


class SurveyctoDatasetsConnector(HttpConnector):
    """The datasets of one SurveyCTO server; `resource` is a dataset's id."""

    kind: ClassVar[str] = "surveycto_datasets"
    has_history: ClassVar[bool] = False
    Config = SurveyctoDatasetsConfig

    def begin(self, credentials: Mapping[str, str]) -> None:  # noqa: ARG002  the protocol's
        """The datasets met so far."""
        self._known: dict[str, Json] = {}

    @classmethod
    def quotas(cls, config: Mapping[str, Any], credentials: Mapping[str, str]) -> tuple[Quota, ...]:  # noqa: ARG003
        """One request at a time a server, whoever asks, for forms or for datasets."""
        return (ONE_AT_A_TIME,)

    def check(self) -> str:
        """List the datasets; one sentence; raise SourceError."""
        found = list(self._datasets())
        datasets = "1 dataset" if len(found) == 1 else f"{len(found)} datasets"
        return f"{shown(self.config.server)} accepts the user name and the password: {datasets}."

    def discover(self) -> list[TableInfo]:
        """A table for each dataset that this user may see, by id; raise SourceError."""
        found = sorted(self._datasets(), key=lambda dataset: str(dataset["id"]))
        self._known |= {str(dataset["id"]): dataset for dataset in found}
        return [table for dataset in found for table in self.describe(str(dataset["id"]))]

    def describe(self, resource: str) -> list[TableInfo]:
        """The dataset's one table: its fields as the server lists them, else as the CSV's header does.

        Raises:
            ResourceGone: the server has no such dataset, or this user may not see it.

        """
        dataset = self._dataset(resource)
        names = next(csv.reader([str(dataset.get("fieldNames") or "")], skipinitialspace=True), [])
        labels = [name.strip() for name in names] or self._header(resource)
        columns = tuple(
            ColumnInfo(key=key, label=label or key, personal=looks_personal(key, label))
            for key, label in zip(distinct_keys(labels), labels, strict=True)
        )
        rows = dataset.get("totalRecords")
        title = str(dataset.get("title") or resource)
        return [TableInfo(resource, title, columns, rows=rows if isinstance(rows, int) else None)]

    def read(self, request: ReadRequest) -> Iterator[Page]:
        """The whole dataset in pages of at most 20,000 rows.

        Raises:
            Unavailable: the server is just writing it, so that rows may be missing.
            SourceError: as the server says; `BadData` where it sends no CSV.

        """
        if request.window is not None:
            raise BadConfig(
                f"The dataset {request.resource} is a snapshot: it holds no earlier state.",
                advice="Fill the newest partition; older ones cannot be read any more.",
            )
        dataset = self._dataset(request.resource)
        if dataset.get("status") == "DIRTY":
            raise Unavailable(
                f"The dataset {request.resource} is being written on the server.", advice="It is tried again later."
            )
        where = shown(self._csv_url(request.resource))
        with temporary_file(self.policy, "dataset.csv") as file:
            self._download(request.resource, file)
            text = as_utf8(file, "utf-8", where, lambda: file.with_suffix(".utf8"))
            header = read_header(text, ",", 1, where)
            unique = str(dataset.get("uniqueRecordField") or "")
            key = request.key or ((unique,) if unique in header.keys else ())
            rows = CsvRows(text, header, where)
            yield from read_pages([NamedReader(rows)], key, "file", file.with_name("keys.sqlite"))
            self.stats.padded_rows += rows.padded
            self.stats.notes += rows.notes

    def _datasets(self) -> Iterator[Json]:
        """Every dataset; ends where the server names no further page, or one that brings nothing new."""
        seen: set[str] = set()
        cursor: str | None = None
        url = f"{self.config.server}/api/v2/datasets"
        while len(seen) < MOST_DATASETS:
            params = {"limit": str(DATASETS_A_CALL), "orderBy": "id"} | ({"cursor": cursor} if cursor else {})
            with refusals(self.config.server, "list of datasets", "Check `server`."), self._turn():
                answer = self.client.get_json(url, params)
            found = answer.get("data") if isinstance(answer, dict) else None
            if not isinstance(found, list) or not all(isinstance(d, dict) and d.get("id") for d in found):
                raise BadConfig(
                    f"{shown(self.config.server)} does not answer like SurveyCTO.",
                    advice="Check `server`, for example https://example.surveycto.com.",
                )
            new = [dataset for dataset in found if str(dataset["id"]) not in seen]
            seen.update(str(dataset["id"]) for dataset in new)
            yield from new
            cursor = answer.get("nextCursor")
            if not new or not cursor:
                return

    def _dataset(self, resource: str) -> Json:
        """What the server says of a dataset; nothing where it only hands out the data (older servers, lesser roles)."""
        if resource not in self._known:
            try:
                with self._refusals(resource), self._turn():
                    answer = self.client.get_json(self._url(resource))
            except (ResourceGone, AccessForbidden):
                answer = {}
            if not isinstance(answer, dict):
                raise BadData(f"{shown(self._url(resource))} answered without a dataset.", advice="Check `server`.")
            self._known[resource] = answer
        return self._known[resource]

    def _header(self, resource: str) -> list[str]:
        with temporary_file(self.policy, "dataset.csv") as file:
            self._download(resource, file, head=_HEAD_BYTES)
            where = shown(self._csv_url(resource))
            text = as_utf8(file, "utf-8", where, lambda: file.with_suffix(".utf8"))
            return list(read_header(text, ",", 1, where).labels)

    def _download(self, resource: str, file: Path, head: int | None = None) -> None:
        with self._refusals(resource), self._turn():
            self.client.download(self._csv_url(resource), file, head=head)

    def _turn(self) -> Any:
        return one_at_a_time(self.config.server, self.budget)

    @contextmanager
    def _refusals(self, resource: str) -> Iterator[None]:
        advice = "Check `resource`: it is the dataset's id, as on SurveyCTO's Design tab, not its title."
        with refusals(self.config.server, f"dataset {resource}", advice):
            yield

    def _url(self, resource: str) -> str:
        return f"{self.config.server}/api/v2/datasets/{quote(resource, safe='')}"

    def _csv_url(self, resource: str) -> str:
        return f"{self.config.server}/api/v2/datasets/data/csv/{quote(resource, safe='')}"
