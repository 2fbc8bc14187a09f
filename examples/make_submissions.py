"""The demo organisations' submissions: water-point visits made up by a seeded generator, in real towns.

Each day has its own seed: its visits are the same whenever they are generated, and a demo started a day later has the
same rows and one day more. The places are those of data/towns.csv; people, water points and readings are invented.

    python examples/make_submissions.py --until 2026-11-01 > submissions.json
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import random
import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from functools import cache
from pathlib import Path
from typing import Any

if not __package__:  # run by its path: the package `examples` is in the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from examples.kobo_form import TIME_FORMAT, Form, Submission, with_xpaths

HERE = Path(__file__).resolve().parent
FIRST_DAY = date(2025, 9, 1)
VERSION_TWO_FROM = date(2026, 3, 1)
VERSIONS = ("vFh2kWm7TzQpXn4RbLc8Ya", "vT9dKs3GqVjMw6NxEo5Rfu")
INDIA = timezone(timedelta(hours=5, minutes=30))
ROWS_A_DAY_AT_MOST = 20
VISITS_BY_MONTH = (1.1, 1.2, 1.3, 1.4, 1.5, 1.1, 0.5, 0.4, 0.8, 1.1, 1.1, 1.0)  # few roads are open in the monsoon

Town = dict[str, str]


@dataclass(frozen=True)
class Account:
    """A demo organisation's account on the stand-in server."""

    organization: str
    token: str
    forms: list[Form]


@dataclass(frozen=True)
class Point:
    """A water point that enumerators come back to."""

    code: str
    state: str
    district: str
    village: str
    latitude: float
    longitude: float
    kind: str
    depth: float | None
    households: int
    sound: float


@cache
def towns() -> tuple[Town, ...]:
    """The rows of data/towns.csv."""
    with (HERE / "data" / "towns.csv").open(encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file))


def form_content() -> dict[str, Any]:
    """The water-point form as kpi gives a form's `content` (its second version)."""
    content: dict[str, Any] = json.loads((HERE / "forms" / "water_point.json").read_text(encoding="utf-8"))
    return content | {"survey": with_xpaths(content["survey"])}


def water_points(seed: str, states: Sequence[str], count: int) -> list[Point]:
    """So many water points, more of them where more people live; at least one in every district of the states."""
    choose = random.Random(f"{seed}:points")
    by_district: dict[str, list[Town]] = {}
    for town in towns():
        if town["state"] in states:
            by_district.setdefault(town["district_code"], []).append(town)
    districts = list(by_district)
    weights = [math.sqrt(sum(int(t["population"]) for t in by_district[d])) for d in districts]
    homes = districts + choose.choices(districts, weights, k=max(0, count - len(districts)))
    return [_water_point(choose, choose.choice(by_district[home]), number) for number, home in enumerate(homes, 1)]


def _water_point(choose: random.Random, town: Town, number: int) -> Point:
    kinds = {"handpump": 42, "borewell": 16, "piped_tap": 18, "open_well": 12, "tanka": 12}
    if town["state"] != "Rajasthan":
        kinds = {"handpump": 25, "borewell": 5, "piped_tap": 30, "open_well": 5, "spring": 35}
    kind = choose.choices(list(kinds), list(kinds.values()))[0]
    hindi = town["देवनागरी नाम"]
    letters = "".join(c for c in town["district_code"].partition("__")[2] if c.isalpha())[:3].upper()
    return Point(
        code=f"{letters:X<3}-{number:04d}",
        state=town["district_code"].partition("__")[0],
        district=town["district_code"],
        village=hindi if hindi and choose.random() < 0.4 else town["town"],
        latitude=float(town["latitude"]) + choose.gauss(0, 0.03),
        longitude=float(town["longitude"]) + choose.gauss(0, 0.03),
        kind=kind,
        depth=None if kind in {"piped_tap", "tanka", "spring"} else round(choose.lognormvariate(3.2, 0.5), 1),
        households=min(400, int(choose.lognormvariate(3.3, 0.6)) + 1),
        sound=choose.betavariate(4, 1.5),
    )


def submissions(
    seed: str,
    points: Sequence[Point],
    until: date,
    *,
    uid: str,
    a_day: float,
    since: date = FIRST_DAY,
    team: Sequence[str] = ("asha.meena", "farhan.k", "kavita_r", "suresh.b"),
) -> list[Submission]:
    """Stored rows from `since` to the day before `until` (UTC), `a_day` on average, by rising `_id` and time."""
    rows: list[Submission] = []
    for offset in range((until - since).days):
        day = since + timedelta(days=offset)
        choose = random.Random(f"{seed}:{day.isoformat()}")
        expected = a_day * VISITS_BY_MONTH[day.month - 1] * (0.3 if day.weekday() == 6 else 1.12)
        count = min(ROWS_A_DAY_AT_MOST, _poisson(choose, expected))
        first = 100_000 + (day - FIRST_DAY).days * ROWS_A_DAY_AT_MOST
        visits = [_visit(choose, day, choose.choice(points), choose.choice(team), uid) for _ in range(count)]
        for number, row in enumerate(sorted(visits, key=lambda row: str(row["_submission_time"]))):
            rows.append({"_id": first + number} | row)
    return rows


def _poisson(choose: random.Random, mean: float) -> int:
    count, product, limit = 0, choose.random(), math.exp(-mean)
    while product > limit:
        count += 1
        product *= choose.random()
    return count


def _uuid(choose: random.Random) -> str:
    return str(uuid.UUID(int=choose.getrandbits(128), version=4))


def _visit(choose: random.Random, arrived: date, point: Point, user: str, uid: str) -> Submission:
    """One stored row (without `_id`) that reached the server on that day; one in ten waited on a phone before."""
    waited = choose.randint(1, 4) if choose.random() < 0.1 else 0
    day = arrived - timedelta(days=waited)
    start = datetime.combine(day, time(8), INDIA) + timedelta(seconds=choose.randrange(9 * 3600))
    end = start + timedelta(seconds=choose.randint(240, 2400))
    sent = end + timedelta(days=waited, seconds=choose.randint(5, 3600))
    version = VERSIONS[day >= VERSION_TWO_FROM]
    root, edited = _uuid(choose), choose.random() < 0.06
    current = _uuid(choose) if edited else root
    consent = choose.random() < 0.97
    row: Submission = {
        "formhub/uuid": uuid.uuid5(uuid.NAMESPACE_OID, uid).hex,
        "start": start.isoformat(timespec="milliseconds"),
        "end": end.isoformat(timespec="milliseconds"),
        "today": day.isoformat(),
        "username": user,
        "deviceid": f"ee.example.org:{uuid.uuid5(uuid.NAMESPACE_OID, user).hex[:16]}",
        "consent": "yes" if consent else "no",
    }
    if consent:
        row |= _answers(choose, day, point, version)
    row["people/enumerator"] = user.replace("_", " ").replace(".", " ").title()
    row |= {"__version__": version, "meta/instanceID": f"uuid:{current}", "meta/rootUuid": f"uuid:{root}"}
    if edited:
        row["meta/deprecatedID"] = f"uuid:{root}"
    row |= {
        "_xform_id_string": uid,
        "_uuid": current,
        "_attachments": _attachments(choose, row, user, uid, root),
        "_status": "submitted_via_web",
        "_geolocation": [None, None],
        "_submission_time": sent.astimezone(UTC).strftime(TIME_FORMAT),
        "_tags": [],
        "_notes": [],
        "_validation_status": _validation(choose, sent),
        "_submitted_by": user,
    }
    if "place/location" in row:
        row["_geolocation"] = [float(part) for part in row["place/location"].split()[:2]]
    return row


def _answers(choose: random.Random, day: date, point: Point, version: str) -> Submission:
    """The answers of a visit with consent; what a question's relevance hides, or a hurried person skips, is absent."""
    status = choose.choices(
        ["works", "works_partly", "broken"], [point.sound, 0.25 + 0.1 * (day.month in {5, 6}), (1 - point.sound) * 0.8]
    )[0]
    row: Submission = {"place/state": point.state, "place/district": point.district, "place/village": point.village}
    if choose.random() < 0.93:
        near = (point.latitude + choose.gauss(0, 0.0001), point.longitude + choose.gauss(0, 0.0001))
        row["place/location"] = (
            f"{near[0]:.6f} {near[1]:.6f} {choose.uniform(150, 900):.1f} {choose.uniform(3, 15):.1f}"
        )
    row |= {"water_point/point_code": point.code, "water_point/kind": point.kind, "water_point/status": status}
    if status != "works":
        problems = ["leak", "low_yield", "no_handle", "bad_taste", "dirty_platform", "motor"]
        row["water_point/problems"] = " ".join(sorted(choose.sample(problems, choose.choice([1, 1, 2, 2, 3]))))
    if point.depth is not None and choose.random() < 0.85:
        row["water_point/depth_m"] = f"{point.depth * (1 + 0.15 * math.sin(day.month / 2)):.1f}"
    if choose.random() < 0.96:
        row["water_point/households"] = str(max(0, point.households + choose.randint(-5, 5)))
    if choose.random() < 0.6:
        row["water_point/last_repair"] = (day - timedelta(days=int(choose.expovariate(1 / 200)) + 1)).isoformat()
        if choose.random() < 0.7:
            row["water_point/repair_cost_inr"] = f"{choose.lognormvariate(7, 0.8):.2f}"
    if version == VERSIONS[1]:
        row["water_point/chlorinated"] = choose.choice(["yes", "no", "no"])
    else:
        row["water_point/caretaker_name"] = choose.choice(["रामलाल", "Sita Devi", "गीता बाई", "Mohan Lal", "Ganga Ram"])
    if choose.random() < 0.3:
        row["water_point/photo"] = f"{round(choose.uniform(1.6e12, 1.8e12))}.jpg"
    row |= _tests(choose, day, status)
    if choose.random() < 0.5:
        row["people/caretaker_phone"] = f"+91 00000 {choose.randrange(100_000):05d}"  # no Indian number begins with 0
    if choose.random() < 0.15:
        row["remarks"] = choose.choice(
            ["Platform is cracked", "गर्मी में पानी कम", "Queue of 20 people", "मरम्मत हो गई, अब ठीक है"]
        )
    return row


def _tests(choose: random.Random, day: date, status: str) -> Submission:
    """The repeat group `tests` with its readings; absent where nothing was tested, as kpi leaves it out."""
    planned = choose.choice([0, 0, 1, 1, 2, 3])
    count = 0 if status == "broken" else planned
    answers: Submission = {"tests_planned": str(planned), "tests_count": str(count)}
    tests = []
    for number in range(1, count + 1):
        test: Submission = {"tests/bottle": f"B{number}", "tests/tested_on": day.isoformat()}
        if choose.random() < 0.8:
            test["tests/tested_at"] = f"{choose.randint(8, 17):02d}:{choose.randrange(60):02d}:00.000+05:30"
        test["tests/e_coli"] = choose.choices(["no", "yes", "unclear"], [78, 17, 5])[0]
        readings = {
            "ph": round(choose.gauss(7.6, 0.4), 1),
            "fluoride": round(choose.lognormvariate(-0.1, 0.6), 2),
            "nitrate": round(choose.lognormvariate(3.2, 0.7), 1),
            "tds": round(choose.lognormvariate(6.5, 0.5)),
            "chlorine": round(max(0.0, choose.gauss(0.2, 0.15)), 2),
        }
        measured = sorted(choose.sample(list(readings), choose.randint(0, 4)))
        if measured:
            test["tests/readings"] = [
                {"tests/readings/parameter": name, "tests/readings/value": str(readings[name])} for name in measured
            ]
        tests.append(test)
    return answers | ({"tests": tests} if tests else {})


def _attachments(choose: random.Random, row: Submission, user: str, uid: str, root: str) -> list[Submission]:
    """What kpi says of the photo; the server adds the addresses."""
    name = row.get("water_point/photo")
    if name is None:
        return []
    return [
        {
            "mimetype": "image/jpeg",
            "filename": f"{user}/attachments/{uid}/{root}/{name}",
            "media_file_basename": name,
            "uid": f"att{choose.getrandbits(64):016x}",
            "question_xpath": "water_point/photo",
            "is_deleted": False,
        }
    ]


def _validation(choose: random.Random, sent: datetime) -> Submission:
    status = choose.choices([None, "approved", "not_approved", "on_hold"], [30, 55, 7, 8])[0]
    if status is None:
        return {}
    label = {"approved": "Approved", "not_approved": "Not approved", "on_hold": "On hold"}[status]
    checked = int((sent + timedelta(hours=6)).timestamp())
    return {"timestamp": checked, "uid": f"validation_status_{status}", "by_whom": "supervisor", "label": label}


def water_point_form(
    until: date, *, seed: str, uid: str, name: str, states: Sequence[str], points: int, a_day: float
) -> Form:
    """A deployed water-point form with its submissions up to a day."""
    return Form(
        uid=uid,
        name=name,
        content=form_content(),
        submissions=submissions(seed, water_points(seed, states, points), until, uid=uid, a_day=a_day),
        version_id=VERSIONS[until >= VERSION_TWO_FROM],
        deployed_at=datetime.combine(FIRST_DAY, time(4), UTC),
    )


def demo_accounts(until: date) -> list[Account]:
    """The two demo organisations, with submissions up to the day before `until`."""
    clean_water = water_point_form(
        until, seed="clean-water", uid="aVWpQ7rT2xKcLm9sNd4HzB", name="Water point visits | जल स्रोत निरीक्षण",
        states=["Rajasthan"], points=220, a_day=1.4,
    )  # fmt: skip
    springs = water_point_form(
        until, seed="himalaya-springs", uid="aHs5JfYw8GbXo3EuRi6CkP", name="Spring survey | झरना सर्वेक्षण",
        states=["Uttarakhand", "Himachal Pradesh"], points=40, a_day=0.3,
    )  # fmt: skip
    return [
        Account("clean-water", "demo-token-of-clean-water", [clean_water]),
        Account("himalaya-springs", "demo-token-of-himalaya-springs", [springs]),
    ]


def main() -> None:
    """Print the first demo organisation's submissions as JSON."""
    parser = argparse.ArgumentParser(description="The demo's water-point submissions as JSON.")
    parser.add_argument("--until", type=date.fromisoformat, default=datetime.now(UTC).date(), help="default: today")
    json.dump(
        demo_accounts(parser.parse_args().until)[0].forms[0].submissions, sys.stdout, ensure_ascii=False, indent=1
    )


if __name__ == "__main__":
    main()
