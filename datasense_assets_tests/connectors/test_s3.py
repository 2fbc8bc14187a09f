"""Files in a bucket: found by key, folder or pattern, fetched whole whatever breaks off, refused in plain words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from datasense_assets.connectors import NetworkPolicy, open_connector
from datasense_assets.connectors.base import ROW_ID, Connector
from datasense_assets.connectors.errors import AccessForbidden, BadConfig, ResourceGone, Throttled, Unavailable
from datasense_assets_tests.connectors.conftest import rows
from datasense_assets_tests.stand_ins.s3 import KEY, SECRET, S3StandIn, serve

CREDENTIALS = {"access_key_id": KEY, "secret_access_key": SECRET}


@pytest.fixture(scope="module")
def server() -> Iterator[S3StandIn]:
    with serve() as stand_in:
        yield stand_in


@pytest.fixture
def bucket(server: S3StandIn) -> S3StandIn:
    server.slow = server.cut = 0
    server.public = False
    server.put("data", in__feb_csv=b"a,b\n3,4\n", in__jan_csv=b"a,b\n1,2\n", in__readme_md=b"no")
    server.write("data", "big.csv", b"a\n" + b"1\n" * 999)
    return server


def opened(server: S3StandIn, url: str, credentials: dict[str, str] = CREDENTIALS, **policy: Any) -> Connector:
    allowed = NetworkPolicy(**{"allow_private_addresses": True, **policy})
    return open_connector("file", {"url": url, "endpoint_url": server.url}, credentials, allowed)


def test_one_object_costs_a_look_and_a_fetch(bucket: S3StandIn) -> None:
    connector = opened(bucket, "s3://data/big.csv")
    assert len(rows(connector)) == 999
    assert bucket.requests == ["HEAD /data/big.csv", "GET /data/big.csv"]
    assert (connector.stats.api_calls, connector.stats.bytes) == (2, 2000)


@pytest.mark.parametrize("url", ["s3://data/in/", "s3://data/in", "s3://data/in/*.csv", "s3://data/**/*an.csv"])
def test_folders_and_patterns_are_one_table(bucket: S3StandIn, url: str) -> None:
    found = rows(opened(bucket, url))
    assert found[-1]["a"] == "1"
    assert found[-1]["file"] in ("jan.csv", "in/jan.csv")
    assert found[-1][ROW_ID] == f"{found[-1]['file']}:1"
    assert len(found) == (1 if "**" in url else 2)


def test_the_fingerprint_tells_every_change_without_a_fetch(bucket: S3StandIn) -> None:
    first = opened(bucket, "s3://data/in/").fingerprint("in", None)
    bucket.requests.clear()
    assert opened(bucket, "s3://data/in/").fingerprint("in", first) == first
    assert bucket.requests == ["GET /data"]
    bucket.write("data", "in/mar.csv", b"a\n5\n")
    second = opened(bucket, "s3://data/in/").fingerprint("in", first)
    bucket.write("data", "in/jan.csv", b"a,b\n1,9\n")
    third = opened(bucket, "s3://data/in/").fingerprint("in", second)
    assert len({first, second, third}) == 3
    bucket.client().delete_object(Bucket="data", Key="in/mar.csv")


def test_an_object_that_goes_away_meanwhile_is_a_failure_that_passes(bucket: S3StandIn) -> None:
    connector = opened(bucket, "s3://data/in/")
    assert connector.fingerprint("in", None)
    bucket.client().delete_object(Bucket="data", Key="in/jan.csv")
    with pytest.raises(Unavailable, match=r"jan\.csv went away while it was read"):
        rows(connector, "in")
    assert len(rows(opened(bucket, "s3://data/in/"), "in")) == 1


def test_the_only_object_is_gone_for_good_when_it_goes_away_meanwhile(bucket: S3StandIn) -> None:
    bucket.write("data", "once.csv", b"a\n1\n")
    connector = opened(bucket, "s3://data/once.csv")
    assert connector.fingerprint("once.csv", None)
    bucket.client().delete_object(Bucket="data", Key="once.csv")
    with pytest.raises(ResourceGone, match=r"once\.csv is not there"):
        rows(connector, "once.csv")


def test_slow_down_and_a_body_that_breaks_off_are_mended_by_trying_again(bucket: S3StandIn) -> None:
    bucket.slow = 1
    assert len(rows(opened(bucket, "s3://data/big.csv"))) == 999
    bucket.cut = 1
    assert len(rows(opened(bucket, "s3://data/big.csv"))) == 999


def test_what_does_not_mend_is_said_after_as_many_tries_as_are_allowed(bucket: S3StandIn) -> None:
    bucket.cut = 100
    with pytest.raises(Unavailable):
        rows(opened(bucket, "s3://data/big.csv", attempts=2))
    assert bucket.requests.count("GET /data/big.csv") == 2
    bucket.cut, bucket.slow = 0, 100
    bucket.requests.clear()
    with pytest.raises(Throttled, match="asks to wait"):
        opened(bucket, "s3://data/in/", attempts=2).check()
    assert len(bucket.requests) == 2


def test_refusals_say_what_helps_and_show_no_secret(bucket: S3StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    with pytest.raises(AccessForbidden, match="without a credential") as caught:  # this machine's own are not used
        opened(bucket, "s3://data/big.csv", {}).check()
    wrong = {"access_key_id": "AKIAWRONG", "secret_access_key": "wr0ng"}
    for url in ("s3://data/big.csv", "s3://data/in/"):
        with pytest.raises(Exception, match="credential") as caught:
            opened(bucket, url, wrong).check()
        assert "wr0ng" not in str(caught.value) + repr(caught.value.__cause__)
    for url in ("s3://data/none.csv", "s3://nobucket/a.csv", "s3://data/in/*.parquet"):
        with pytest.raises(ResourceGone):
            opened(bucket, url).check()
    bucket.public = True
    assert len(rows(opened(bucket, "s3://data/big.csv", {}))) == 999


def test_a_private_address_is_not_connected_to(bucket: S3StandIn) -> None:
    bucket.requests.clear()
    with pytest.raises(BadConfig, match="private network"):
        opened(bucket, "s3://data/big.csv", allow_private_addresses=False).check()
    assert bucket.requests == []


def test_the_stand_in_is_one_for_amazons_own_client_too(bucket: S3StandIn) -> None:
    listed = bucket.client().list_objects_v2(Bucket="data", Prefix="in/")
    assert [each["Key"] for each in listed["Contents"]] == ["in/feb.csv", "in/jan.csv", "in/readme.md"]
    assert bucket.client().get_object(Bucket="data", Key="in/jan.csv")["Body"].read() == b"a,b\n1,2\n"
