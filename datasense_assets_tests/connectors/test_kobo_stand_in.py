"""The stand-in KoboToolbox server, proven by clients that others wrote for the real one, and by plain HTTP."""

from __future__ import annotations

import csv
import json
import re
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pykobo
import pytest
import requests
from koboextractor import KoboExtractor

from examples.kobo_faults import bad_gateway, cut_short, missing, slow, throttled, unauthorized, unavailable
from examples.kobo_form import Form
from examples.kobo_stand_in import StandIn, serve
from examples.make_submissions import FIRST_DAY, VERSIONS, demo_accounts, form_content, submissions, water_points

TOKEN = "a-token"
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
UNTIL = date(2026, 11, 1)


def number_form(uid: str = "aNumbers", rows: int = 250) -> Form:
    form = Form(uid=uid, name=f"Form {uid}", content={"survey": [{"type": "integer", "name": "n"}], "choices": []})
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(1, rows + 1):
        answers: dict[str, Any] = {"n": str(number), "group/parity": "even" if number % 2 == 0 else "odd"}
        if number % 10:
            answers["note"] = "text"
        form.add(answers, at=start + timedelta(minutes=number))
    return form


@pytest.fixture
def form() -> Form:
    return number_form()


@pytest.fixture
def kobo(form: Form) -> Iterator[StandIn]:
    with serve([form], token=TOKEN) as stand_in:
        yield stand_in


@pytest.fixture
def client(kobo: StandIn) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=kobo.url, headers={"Authorization": f"Token {TOKEN}"}) as http:
        yield http


def data(client: httpx.Client, **parameters: Any) -> dict[str, Any]:
    encoded = {k: v if isinstance(v, int) else json.dumps(v) for k, v in parameters.items()}
    response = client.get("/api/v2/assets/aNumbers/data/", params=encoded)
    assert response.status_code == 200, response.text
    return dict(response.json())


def without_nested_repeat(form: Form) -> Form:
    """The demo's form as pykobo can read it: it fails on the labels of a repeat group within another."""
    inner = "tests/readings"
    survey = [row for row in form.content["survey"] if not row.get("$xpath", "").startswith(inner)]
    survey.remove({"type": "end_repeat"})
    kept = [{k: [{i: t[i] for i in t if i != inner} for t in v] if k == "tests" else v for k, v in row.items()}
            for row in form.submissions]  # fmt: skip
    return Form(form.uid, form.name, form.content | {"survey": survey}, kept)


@pytest.fixture(scope="module")
def demo() -> Iterator[tuple[StandIn, Form, str]]:
    account = demo_accounts(UNTIL)[0]
    with serve(account.forms, token=account.token) as stand_in:
        yield stand_in, account.forms[0], account.token


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return demo_accounts(UNTIL)[0].forms[0].submissions


class TestOtherPeoplesClients:
    def test_koboextractor_lists_the_form_and_reads_its_questions(self, demo: tuple[StandIn, Form, str]) -> None:
        stand_in, form, token = demo
        kobo = KoboExtractor(token, f"{stand_in.url}/api/v2")
        assert [asset["uid"] for asset in kobo.list_assets()["results"]] == [form.uid]
        asset = kobo.get_asset(form.uid)
        questions = kobo.get_questions(asset=asset, unpack_multiples=True)
        assert questions["groups"]["tests"]["repeat"] is True
        assert questions["groups"]["tests"]["groups"]["readings"]["repeat"] is True
        assert questions["groups"]["place"]["questions"]["district"]["label"] == "District"
        assert questions["groups"]["water_point"]["questions"]["problems"]["choices"]["leak"]["label"] == "Leak"
        assert kobo.get_choices(asset)["districts"]["rajasthan__tonk"]["label"] == "Tonk"

    def test_koboextractor_pages_and_filters_by_submission_time(self, demo: tuple[StandIn, Form, str]) -> None:
        stand_in, form, token = demo
        kobo = KoboExtractor(token, f"{stand_in.url}/api/v2")
        page = kobo.get_data(form.uid, start=1, limit=50)
        assert [row["_id"] for row in page["results"]] == [row["_id"] for row in form.submissions[1:51]]
        late = kobo.get_data(form.uid, submitted_after="2026-10-15T00:00:00", limit=1000)
        expected = [r["_id"] for r in form.submissions if r["_submission_time"] > "2026-10-15T00:00:00"]
        assert [row["_id"] for row in late["results"]] == expected
        assert 0 < late["count"] < form.submission_count
        asset = kobo.get_asset(form.uid)
        answer = next(row for row in page["results"] if "place/district" in row)
        choices, questions = kobo.get_choices(asset), kobo.get_questions(asset=asset, unpack_multiples=True)
        labelled = kobo.label_result(answer, choices, questions, unpack_multiples=True)
        district = labelled["results"]["place/district"]
        assert district["label"] == "District"
        assert f"rajasthan__{district['answer_label'].lower().replace(' ', '_')}" == answer["place/district"]

    @pytest.mark.filterwarnings("ignore::DeprecationWarning:pykobo")
    def test_pykobo_makes_frames_of_the_form_and_its_repeat_group(self) -> None:
        form = without_nested_repeat(demo_accounts(UNTIL)[0].forms[0])
        with serve([form], token=TOKEN) as stand_in:
            self.read_with_pykobo(stand_in, form, TOKEN)

    def read_with_pykobo(self, stand_in: StandIn, form: Form, token: str) -> None:
        manager = pykobo.Manager(url=stand_in.url, api_version=2, token=token)
        assert [f.uid for f in manager.get_forms()] == [form.uid]
        found = manager.get_form(form.uid)
        assert found.metadata["num_submissions"] == form.submission_count
        found.fetch_data()
        first = form.submissions[:100]
        assert list(found.data["_id"]) == [row["_id"] for row in first]
        tests = sum(len(row.get("tests", [])) for row in first)
        assert tests > 10
        assert len(found.repeats["tests"]) == tests
        assert {"bottle", "e_coli", "_parent_index"} <= set(found.repeats["tests"].columns)
        latitude = found.data["_location_latitude"].dropna().astype(float)
        assert latitude.between(22, 31).all()
        found.fetch_attachments(["photo"])
        links = found.data["media_photo"].dropna()
        assert len(links) > 5
        assert links.str.startswith(f"{stand_in.url}/api/v2/assets/{form.uid}/data/").all()
        found.display(columns_as="label", choices_as="label")
        assert set(found.data["Kind of water point"].dropna()) <= {
            "Hand pump", "Bore well", "Public tap", "Open well", "Rainwater tank (tanka)"
        }  # fmt: skip

    def test_pykobo_with_a_wrong_token_sees_no_form(self, demo: tuple[StandIn, Form, str]) -> None:
        assert pykobo.Manager(url=demo[0].url, api_version=2, token="wrong").get_forms() == []


class TestPaging:
    def test_a_page_has_100_rows_unless_asked(self, client: httpx.Client) -> None:
        page = data(client)
        assert (page["count"], len(page["results"]), page["previous"]) == (250, 100, None)

    def test_following_next_gives_every_row_once(self, client: httpx.Client) -> None:
        url: str | None = "/api/v2/assets/aNumbers/data/?limit=70"
        seen: list[int] = []
        while url:
            page = client.get(url).json()
            seen += [row["_id"] for row in page["results"]]
            url = page["next"]
        assert seen == list(range(1, 251))

    def test_more_than_1000_rows_are_silently_clamped(self) -> None:
        with serve([number_form(rows=1001)], token=TOKEN) as kobo:
            page = httpx.get(
                f"{kobo.url}/api/v2/assets/aNumbers/data/?limit=30000", headers={"Authorization": f"Token {TOKEN}"}
            ).json()
        assert (page["count"], len(page["results"])) == (1001, 1000)
        assert page["next"].endswith("limit=1000&start=1000")

    def test_the_clamp_can_be_that_of_another_server(self, kobo: StandIn, client: httpx.Client) -> None:
        kobo.site.most_rows = 7
        assert len(data(client, limit=100)["results"]) == 7

    def test_rows_by_key_are_found_past_a_deleted_one(self, form: Form, client: httpx.Client) -> None:
        form.delete(100, 101)
        page = data(client, query={"_id": {"$gt": 99}}, sort={"_id": 1}, limit=2)
        assert [row["_id"] for row in page["results"]] == [102, 103]
        assert page["count"] == 149

    def test_forms_come_in_pages_too_and_by_search(self) -> None:
        forms = [number_form(f"aForm{n}", rows=1) for n in range(5)]
        with serve(forms, token=TOKEN) as kobo:
            http = httpx.Client(base_url=kobo.url, headers={"Authorization": f"Token {TOKEN}"})
            first = http.get("/api/v2/assets/", params={"q": "asset_type:survey", "limit": 2}).json()
            assert [asset["uid"] for asset in first["results"]] == ["aForm0", "aForm1"]
            second = http.get(first["next"]).json()
            assert [asset["uid"] for asset in second["results"]] == ["aForm2", "aForm3"]
            assert second["count"] == 5
            assert http.get("/api/v2/assets/", params={"q": "asset_type:block"}).json()["results"] == []
            assert http.get("/api/v2/assets/", params={"q": "aForm4"}).json()["count"] == 1


class TestQuery:
    @pytest.mark.parametrize(
        ("query", "ids"),
        [
            ({"_id": 3}, [3]),
            ({"_id": {"$gt": 248}}, [249, 250]),
            ({"_id": {"$gte": 249, "$lt": 250}}, [249]),
            ({"_id": {"$lte": 1}}, [1]),
            ({"_id": {"$in": [5, 7, 999]}}, [5, 7]),
            ({"_submission_time": {"$lt": "2026-01-01T00:03:00"}}, [1, 2]),
            ({"$or": [{"_id": 1}, {"_id": 250}]}, [1, 250]),
            ({"$and": [{"_id": {"$lt": 6}}, {"group/parity": "even"}]}, [2, 4]),
            ({"_id": {"$lt": 11}, "note": {"$exists": False}}, [10]),
            ({"n": {"$gt": 5}, "_id": {"$lt": 9}}, []),  # text is not compared with a number
        ],
    )
    def test_operators_choose_rows(self, client: httpx.Client, query: Any, ids: list[int]) -> None:
        page = data(client, query=query)
        assert [row["_id"] for row in page["results"]] == ids
        assert page["count"] == len(ids)

    def test_sort_and_fields(self, client: httpx.Client) -> None:
        page = data(client, sort={"group/parity": 1, "_id": -1}, fields=["_id", "note"], limit=2)
        assert page["results"] == [{"_id": 250}, {"_id": 248, "note": "text"}]

    @pytest.mark.parametrize(
        "parameters",
        ["query={", "query=[]", 'query={"_id":{"$where":1}}', "fields=3", "sort=[1]", "start=-1", "limit=0"],
    )
    def test_what_cannot_be_read_is_a_400_with_json(self, client: httpx.Client, parameters: str) -> None:
        response = client.get(f"/api/v2/assets/aNumbers/data/?{parameters}")
        assert response.status_code == 400
        assert response.json()["detail"]


class TestRows:
    def test_an_edit_changes_the_uuid_and_nothing_of_its_place(self, form: Form, client: httpx.Client) -> None:
        before = client.get("/api/v2/assets/aNumbers/data/7/").json()
        form.edit(7, {"n": "70", "note": None})
        after = client.get("/api/v2/assets/aNumbers/data/7/").json()
        assert (after["n"], "note" in after) == ("70", False)
        assert after["_uuid"] != before["_uuid"]
        assert after["meta/deprecatedID"] == before["meta/instanceID"]
        for kept in ("_id", "_submission_time", "meta/rootUuid"):
            assert after[kept] == before[kept]

    def test_a_late_row_takes_its_place_by_id(self, form: Form, client: httpx.Client) -> None:
        form.delete(5)
        form.add({"n": "late"}, at=datetime(2026, 1, 1, 0, 5, tzinfo=UTC), id=5)
        assert [row["_id"] for row in data(client, limit=6)["results"]] == [1, 2, 3, 4, 5, 6]

    def test_counts_of_the_form_follow(self, form: Form, client: httpx.Client) -> None:
        form.add({"n": "251"}, at=datetime(2026, 5, 5, 5, 5, 5, tzinfo=UTC))
        asset = client.get("/api/v2/assets/aNumbers/").json()
        assert asset["deployment__submission_count"] == 251
        assert asset["deployment__last_submission_time"] == "2026-05-05T05:05:05"
        with pytest.raises(KeyError):
            form.delete(1, 9999)
        assert form.submission_count == 251


class TestAccess:
    @pytest.mark.parametrize("header", [{}, {"Authorization": "Token wrong"}, {"Authorization": f"Bearer {TOKEN}"}])
    def test_no_or_a_wrong_token_is_401(self, kobo: StandIn, header: dict[str, str]) -> None:
        for path in ("/api/v2/assets/", "/api/v2/assets/aNumbers/data/"):
            response = httpx.get(kobo.url + path, headers=header)
            assert (response.status_code, list(response.json())) == (401, ["detail"])

    def test_header_names_have_no_case(self, kobo: StandIn) -> None:
        response = requests.get(f"{kobo.url}/api/v2/assets/", headers={"authorization": f"Token {TOKEN}"}, timeout=10)
        assert response.status_code == 200

    def test_a_form_of_another_account_is_as_good_as_unknown(self) -> None:
        with serve(
            [number_form("aMine", 1)], token="mine", more_accounts={"yours": [number_form("aYours", 1)]}
        ) as kobo:
            mine = httpx.Client(base_url=kobo.url, headers={"Authorization": "Token mine"})
            assert mine.get("/api/v2/assets/aMine/").status_code == 200
            for path in (
                "/api/v2/assets/aYours/",
                "/api/v2/assets/aYours/data/",
                "/api/v2/assets/aNone/data/",
                "/api/v3/",
            ):
                assert mine.get(path).status_code == 404
                assert mine.get(path).json() == {"detail": "Not found."}
            assert [asset["uid"] for asset in mine.get("/api/v2/assets/").json()["results"]] == ["aMine"]


class TestFaults:
    @pytest.mark.parametrize(
        ("fault", "status", "headers"),
        [
            (unauthorized(), 401, {}),
            (missing(), 404, {}),
            (throttled(7), 429, {"Retry-After": "7"}),
            (unavailable(), 503, {}),
            (unavailable(1.5), 503, {"Retry-After": "1.5"}),
            (bad_gateway(), 502, {"Content-Type": "text/html"}),
        ],
        ids=lambda value: None,
    )
    def test_a_fault_is_met_once(
        self, kobo: StandIn, client: httpx.Client, fault: Any, status: int, headers: dict[str, str]
    ) -> None:
        kobo.fail(fault)
        response = client.get("/api/v2/assets/")
        assert response.status_code == status
        assert headers.items() <= {k.title(): v for k, v in response.headers.items()}.items()
        assert client.get("/api/v2/assets/").status_code == 200

    def test_faults_keep_to_their_path_their_turn_and_their_number(self, kobo: StandIn, client: httpx.Client) -> None:
        fault = throttled(1, path="/data/", times=2)
        fault.after = 1
        kobo.fail(fault)
        statuses = [client.get(f"/api/v2/assets/{path}").status_code for path in ["", *["aNumbers/data/"] * 4]]
        assert statuses == [200, 200, 429, 429, 200]
        assert kobo.count_requests("/data/") == 4
        assert [request.status for request in kobo.requests] == statuses

    def test_a_slow_answer_is_right_but_late(self, kobo: StandIn, client: httpx.Client) -> None:
        kobo.fail(slow(30.0))
        with pytest.raises(httpx.ReadTimeout):
            client.get("/api/v2/assets/", timeout=0.1)
        kobo.fail(slow(0.05))
        assert client.get("/api/v2/assets/", timeout=10).status_code == 200

    def test_an_answer_can_break_off(self, kobo: StandIn, client: httpx.Client) -> None:
        kobo.fail(cut_short())
        with pytest.raises(httpx.RemoteProtocolError):
            client.get("/api/v2/assets/aNumbers/data/")
        assert len(data(client)["results"]) == 100


class TestFiles:
    @pytest.fixture
    def site(self, tmp_path: Path) -> Iterator[StandIn]:
        (tmp_path / "secret.txt").write_text("outside")
        folder = tmp_path / "public"
        folder.mkdir()
        (folder / "a.csv").write_bytes(b"x\n1\n")
        with serve(files=folder) as stand_in:
            yield stand_in

    def test_a_known_file_is_not_sent_again(self, site: StandIn) -> None:
        first = requests.get(f"{site.url}/files/a.csv", timeout=10)
        assert (first.status_code, first.content) == (200, b"x\n1\n")
        assert first.headers["Content-Type"].startswith("text/csv")
        for header, value in (("If-None-Match", "ETag"), ("If-Modified-Since", "Last-Modified")):
            again = requests.get(f"{site.url}/files/a.csv", headers={header: first.headers[value]}, timeout=10)
            assert (again.status_code, again.content) == (304, b"")
        assert site.site.files is not None
        (site.site.files / "a.csv").write_bytes(b"x\n2\n")
        known = {"If-None-Match": first.headers["ETag"]}
        assert requests.get(f"{site.url}/files/a.csv", headers=known, timeout=10).content == b"x\n2\n"

    def test_head_gives_the_length_alone(self, site: StandIn) -> None:
        response = requests.head(f"{site.url}/files/a.csv", timeout=10)
        assert (response.headers["Content-Length"], response.content) == ("4", b"")

    @pytest.mark.parametrize("name", ["none.csv", "%2e%2e/secret.txt", "", "..%2fsecret.txt"])
    def test_nothing_outside_the_folder(self, site: StandIn, name: str) -> None:
        assert httpx.get(f"{site.url}/files/{name}").status_code == 404


class TestSubmissions:
    def test_a_later_day_adds_rows_and_changes_none(self, rows: list[dict[str, Any]]) -> None:
        later = demo_accounts(UNTIL + timedelta(days=20))[0].forms[0].submissions
        assert later[: len(rows)] == rows
        assert len(later) > len(rows)
        assert min(row["_submission_time"] for row in later[len(rows) :]) >= UNTIL.isoformat()

    def test_the_spread_is_that_of_a_real_survey(self, rows: list[dict[str, Any]]) -> None:
        ids = [row["_id"] for row in rows]
        times = [row["_submission_time"] for row in rows]
        assert 500 < len(rows) < 750
        assert ids == sorted(set(ids))
        assert times == sorted(times)
        assert FIRST_DAY.isoformat() <= times[0]
        assert times[-1] < UNTIL.isoformat()
        assert {row["__version__"] for row in rows} == set(VERSIONS)
        assert {"water_point/caretaker_name", "water_point/chlorinated"} <= {key for row in rows for key in row}
        assert len({row.get("place/district") for row in rows}) > 30
        assert any(row["_uuid"] not in row["meta/rootUuid"] for row in rows)
        assert {row["_validation_status"].get("label") for row in rows} == {None, "Approved", "Not approved", "On hold"}
        assert any(re.search(r"[\u0900-\u097f]", row.get("place/village", "")) for row in rows)

    def test_every_answer_is_one_that_the_form_allows(self, rows: list[dict[str, Any]]) -> None:
        content = form_content()
        lists: dict[str, set[str]] = {}
        for choice in content["choices"]:
            lists.setdefault(choice["list_name"], set()).add(choice["name"])
            assert all(choice["label"])
        questions = {row["$xpath"]: row for row in content["survey"] if "$xpath" in row}
        answers = list(_answers(rows))
        asked = {key for key, _ in answers if not key.startswith(("_", "meta/", "formhub/"))}
        assert asked - set(questions) == {"water_point/caretaker_name", "tests_count"}
        for key, value in answers:
            row = questions.get(key, {})
            if row.get("type") == "select_one":
                assert value in lists[row["select_from_list_name"]]
            elif row.get("type") == "select_multiple":
                assert set(value.split(" ")) <= lists[row["select_from_list_name"]]
            elif key == "water_point/point_code":
                assert re.fullmatch(r"[A-Z]{3}-[0-9]{4}", value)

    def test_every_district_of_the_form_is_in_the_table_of_districts(self) -> None:
        with zipfile.ZipFile(EXAMPLES / "data" / "districts.zip") as archive:
            lines = archive.read("districts.csv").decode().splitlines()
        codes = [row["district_code"] for row in csv.DictReader(lines)]
        choices = [c for c in form_content()["choices"] if c["list_name"] == "districts"]
        assert len(codes) == len(set(codes))
        assert len(choices) == 33 + 12 + 11
        assert {choice["name"] for choice in choices} <= set(codes)

    def test_other_seeds_give_other_visits(self) -> None:
        points = water_points("a", ["Rajasthan"], 40)
        assert len({point.district for point in points}) == 33
        one = submissions("a", points, date(2025, 10, 1), uid="x", a_day=2)
        other = submissions("b", points, date(2025, 10, 1), uid="x", a_day=2)
        assert one != other


def _answers(rows: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for row in rows:
        for key, value in row.items():
            if not key.startswith("_") and isinstance(value, list):
                yield from _answers(value)
            else:
                yield key, value


class TestCommandLine:
    COMMAND = (sys.executable, str(EXAMPLES / "kobo_stand_in.py"), "--port", "0", "--files", str(EXAMPLES / "data"))

    def test_it_serves_both_organisations_and_their_files(self) -> None:
        with subprocess.Popen(
            [*self.COMMAND, "--until", UNTIL.isoformat()], stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                assert process.stdout is not None
                line = json.loads(process.stdout.readline())
                assert [account["organization"] for account in line["accounts"]] == ["clean-water", "himalaya-springs"]
                assert httpx.get(f"{line['files']}towns.csv").text.startswith("geoname_id,town,")
                for account in line["accounts"]:
                    [(uid, count)] = account["forms"].items()
                    url = f"{line['url']}/api/v2/assets/{uid}/data/?limit=1"
                    assert (
                        httpx.get(url, headers={"Authorization": f"Token {account['token']}"}).json()["count"] == count
                    )
            finally:
                process.send_signal(signal.SIGINT)
            assert process.wait(10) == 0

    def test_it_ends_with_the_process_that_started_it(self) -> None:
        parent = (
            "import subprocess, sys\n"
            "child = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, text=True)\n"
            "print(child.stdout.readline(), flush=True)\n"
            "sys.stdin.readline()\n"
        )
        command = [sys.executable, "-c", parent, *self.COMMAND]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
            assert process.stdout is not None
            url = json.loads(process.stdout.readline())["url"]
            assert httpx.get(f"{url}/files/towns.csv").status_code == 200
            process.kill()
            process.communicate(timeout=20)  # stderr is the child's too: it ends when the child does
        with pytest.raises(httpx.ConnectError):
            httpx.get(url)

    def test_a_taken_port_is_said(self) -> None:
        with serve() as other:
            port = other.url.rpartition(":")[2]
            result = subprocess.run(
                [sys.executable, str(EXAMPLES / "kobo_stand_in.py"), "--port", port], capture_output=True, text=True
            )
        assert result.returncode == 2
        assert f"port {port} cannot be used" in result.stderr
        assert "--port 0" in result.stderr
