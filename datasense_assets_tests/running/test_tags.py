"""Tags and lanes of runs."""

from __future__ import annotations

import pytest

from datasense_assets.running import tags as t

VISITS = ("clean_water", "health_forms", "visits")
REPEAT = ("clean_water", "health_forms", "visits__tests")
MONTHLY = ("clean_water", "recipes", "monthly")
OTHER = ("other", "health_forms", "visits")
KOBO = t.Owner(tier="standard", connector="kobo")


def made(tags: dict[str, str], *keys: tuple[str, ...], owner: t.Owner = KOBO) -> dict[str, str]:
    return t.run_tags(tags, t.selected(keys), owner)


def test_a_click_on_a_source_bears_every_tag_of_the_contract() -> None:
    assert made({}, VISITS, REPEAT) == {
        "datasense/org": "clean_water",
        "datasense/source": "health_forms",
        "datasense/source_key": "clean_water.health_forms",
        "datasense/connector": "kobo",
        "datasense/lane": "interactive",
        "datasense/tier": "standard",
        "dagster/priority": "30",
    }


@pytest.mark.parametrize(
    ("tags", "keys", "lane"),
    [
        ({}, [VISITS], "interactive"),
        ({"dagster/backfill": "abc"}, [VISITS], "backfill"),
        ({"dagster/sensor_name": "due_sources"}, [VISITS], "scheduled"),
        ({"dagster/sensor_name": "stale_recipes"}, [MONTHLY], "transform"),
        ({"datasense/lane": "backfill"}, [VISITS], "backfill"),
    ],
)
def test_the_lane_says_who_asked(tags, keys, lane) -> None:
    assert t.lane_of(tags, t.selected(keys)) == lane


def test_what_nobody_waits_for_bears_the_tags_by_which_it_leaves_a_place_to_people() -> None:
    owner = t.Owner(connector="kobo", host="kobo.example.org")
    background = {
        "datasense/background_org": "clean_water",
        "datasense/background_connector": "kobo",
        "datasense/background_host": "kobo.example.org",
    }
    for lane in t.Lane:
        tags = made({t.LANE: lane.value}, VISITS, owner=owner)
        wanted = background if lane in (t.Lane.SCHEDULED, t.Lane.BACKFILL) else {}
        assert {key: value for key, value in tags.items() if "background" in key} == wanted
        assert tags.get("datasense/unattended") == (None if lane is t.Lane.INTERACTIVE else "true")


def test_people_come_before_recipes_before_schedules_before_backfills_and_premium_first_in_a_lane() -> None:
    order = [t.priority(lane, tier) for lane in t.Lane for tier in ("premium", "standard")]
    assert order == sorted(order, reverse=True)
    assert len(set(order)) == len(order)


def test_the_same_slug_in_two_organisations_gives_two_source_keys() -> None:
    assert made({}, VISITS)["datasense/source_key"] != made({}, OTHER)["datasense/source_key"]


def test_a_run_bears_its_server_and_the_time_after_which_it_is_stopped() -> None:
    owner = t.Owner.of("standard", "kobo", {"base_url": "https://kobo.example.org:8443/sub"}, None)
    tags = made({}, VISITS, owner=owner)
    assert tags["datasense/host"] == "kobo.example.org:8443"
    assert tags["dagster/max_runtime"] == str(120 * 60 + 600)
    assert t.Owner.of("standard", "csv", {"url": "s3://bucket/key.csv"}, 5) == t.Owner(
        "standard", "csv", "s3.amazonaws.com", 5
    )
    assert "datasense/host" not in made({}, VISITS, owner=t.Owner.of("standard", "csv", {"url": "data/a.csv"}, None))
    assert (
        t.Owner.of("standard", "surveycto", {"server": "https://ngo.surveycto.com"}, None).host == "ngo.surveycto.com"
    )
    assert t.Owner.of("standard", "odk_central", {"base_url": "https://odk.example.org", "project": 1}, None).host == (
        "odk.example.org"
    )


def test_a_run_over_two_organisations_belongs_to_none() -> None:
    assert "datasense/org" not in made({}, VISITS, OTHER)


def test_what_a_run_already_bears_is_kept() -> None:
    assert "datasense/tier" not in made({"datasense/tier": "premium"}, VISITS)


def test_a_recipe_run_names_its_recipe_and_no_source() -> None:
    tags = made({}, MONTHLY)
    assert tags["datasense/recipe"] == "monthly"
    assert tags["datasense/recipe_key"] == "clean_water.monthly"
    assert "datasense/source" not in tags
