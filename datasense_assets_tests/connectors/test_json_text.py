"""JSON is decoded to what the standard library gives, whichever library does it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasense_assets.connectors.json_text import decode

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(-(2**70), 2**70) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def same(one: Any, other: Any) -> bool:
    return repr(one) == repr(other)  # tells 1 from 1.0, -0.0 from 0.0, and takes NaN for itself


@given(value=VALUES, ascii_only=st.booleans())
def test_any_document_is_decoded_as_by_the_standard_library(value: Any, ascii_only: bool) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    try:
        expected = json.loads(body)
    except ValueError:
        with pytest.raises(ValueError):
            decode(body)
        return
    assert same(decode(body), expected)


@pytest.mark.parametrize(
    "body",
    [
        b'{"n": 12345678901234567890123}',
        b"[18446744073709551616, -9223372036854775809]",
        b'{"a": 1, "a": 2}',
        b"[NaN, Infinity, 1e400]",
        b'["\\ud800", "\\u0000"]',
        "\ufeff[1]".encode(),
        '["é"]'.encode("utf-16"),
        b"[1.10, 1E5, -0, -0.0, 123456789.123456789123456789]",
    ],
)
def test_what_orjson_would_refuse_or_change(body: bytes) -> None:
    assert same(decode(body), json.loads(body))


@pytest.mark.parametrize("body", [b"", b"{", b"<html>", b"[1,]", b'["\xff"]'])
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError):
        decode(body)
