"""Parquet files as rows of text that keeps every value exactly, with the types that the file declares.

Integers of any length, decimals and moments pass without a float in between. A struct becomes a column a field, joined
by `/`; a list, map or struct of lists is JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from datasense_assets.catalog.models import ColumnType as T
from datasense_assets.connectors.base import ColumnInfo
from datasense_assets.connectors.csv_dialect import distinct_keys
from datasense_assets.connectors.errors import BadData
from datasense_assets.connectors.personal import looks_personal
from datasense_assets.connectors.plain_text import Cleaner
from datasense_assets.connectors.row_pages import PAGE_ROWS, Block

_EXACT_DIGITS = 15  # of a double, which is what a number column is


class ParquetRows:
    """The rows of one Parquet file."""

    def __init__(self, path: Path, where: str) -> None:
        """Read the file's schema.

        Raises:
            BadData: it is no Parquet file, or damaged.

        """
        self.where, self.padded = where, 0
        self.notes: list[str] = []
        self._path = path
        try:
            with pq.ParquetFile(path) as file:
                schema = file.schema_arrow
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from None
        self._fields = _flat(pa.schema(schema))
        keys = distinct_keys([name for name, _ in self._fields])
        self.columns = tuple(
            ColumnInfo(key, name or key, declared_type(kind), personal=looks_personal(key, name))
            for key, (name, kind) in zip(keys, self._fields, strict=True)
        )

    def blocks(self) -> Iterator[Block]:
        """Every row; raise BadData where the file breaks off."""
        number, clean = 1, Cleaner()
        try:
            with pq.ParquetFile(self._path) as file:
                for batch in file.iter_batches(batch_size=PAGE_ROWS):
                    columns = _flatten(batch)
                    texts = (clean.texts(as_text(column)) for column in columns)
                    data = {info.key: text for info, text in zip(self.columns, texts, strict=True)}
                    numbers = pa.arange(number, number + batch.num_rows)
                    number += batch.num_rows
                    yield Block(numbers, pa.table(data), [])
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from None
        self.notes = clean.notes(self.where)

    def line_of(self, number: int) -> int:
        """The row's number."""
        return number

    def _damaged(self, error: Exception) -> BadData:
        return BadData(f"{self.where} is a damaged Parquet file ({str(error)[:200]}).", advice="Write it again.")


def declared_type(kind: pa.DataType) -> T | None:
    """The column type that a Parquet type stands for; None where values decide."""
    if pa.types.is_dictionary(kind):
        return declared_type(kind.value_type)
    if pa.types.is_boolean(kind):
        return T.BOOLEAN
    if pa.types.is_integer(kind):
        return T.INTEGER
    if pa.types.is_floating(kind):
        return T.NUMBER
    if pa.types.is_decimal(kind):
        if kind.precision > _EXACT_DIGITS:
            return T.TEXT
        return T.NUMBER if kind.scale else T.INTEGER
    if pa.types.is_date(kind):
        return T.DATE
    if pa.types.is_timestamp(kind):
        return T.DATETIME
    if pa.types.is_time(kind):
        return T.TIME
    if pa.types.is_nested(kind):
        return T.JSON
    return None if pa.types.is_null(kind) else T.TEXT


def as_text(column: pa.Array) -> pa.Array:
    """Every value as text that stands for exactly it; null stays null."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return as_text(column.dictionary_decode())
    if pa.types.is_string(kind):
        return column
    if pa.types.is_timestamp(kind):
        if kind.tz is not None:
            column = column.cast(pa.timestamp(kind.unit, "UTC"))
        return _six_digits(column.cast(pa.string()))
    if pa.types.is_time(kind):
        return _six_digits(column.cast(pa.string()))
    if pa.types.is_date(kind):
        return column.cast(pa.date32()).cast(pa.string())
    if pa.types.is_nested(kind):
        return pa.array([None if v is None else _json(v) for v in column.to_pylist()], pa.string())
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return pa.array([None if v is None else v.hex() for v in column.to_pylist()], pa.string())
    if pa.types.is_float16(kind):
        column = column.cast(pa.float32())
    if pa.types.is_decimal(kind):
        return pa.array([None if v is None else format(v, "f") for v in column.to_pylist()], pa.string())
    if pa.types.is_duration(kind) or pa.types.is_interval(kind):
        return pa.array([None if v is None else str(v) for v in column.to_pylist()], pa.string())
    return column.cast(pa.string())


def _six_digits(text: pa.Array) -> pa.Array:
    """Nanoseconds only where there are any: Postgres keeps six digits, and a seventh makes the column text."""
    return pc.replace_substring_regex(text, r"(\.[0-9]{6})000", r"\1")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _flat(schema: Any, prefix: str = "") -> list[tuple[str, pa.DataType]]:
    fields: list[tuple[str, pa.DataType]] = []
    for field in schema:
        name = f"{prefix}{field.name}"
        fields += _flat(field.type, f"{name}/") if pa.types.is_struct(field.type) else [(name, field.type)]
    return fields


def _flatten(batch: pa.RecordBatch) -> list[pa.Array]:
    columns: list[pa.Array] = []
    waiting = list(reversed(batch.columns))
    while waiting:
        column = waiting.pop()
        if pa.types.is_struct(column.type):
            waiting += reversed(column.flatten())
        else:
            columns.append(column)
    return columns
