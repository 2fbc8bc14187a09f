"""What a build costs beside the same written by hand, and how long readers wait for it.

    python benchmarks/recipe_build.py [rows] [blocks] [kind ...]

Needs DATASENSE_DATABASE_URL (or the embedded server) on this machine: CPU seconds of client and server process are
added up, which other work on the machine disturbs less than the clock. By hand means: SQL of the same meaning for every
value, and create the table with its types, insert, analyze, drop the old one, rename, in one transaction; where the
recipe casts, the values lost are counted too.

A block is four turns, by hand, build, build, by hand or the other way round, so that what grows or fades with time is
on both sides alike; its ratio is of the two sums, and short kinds have more blocks. Inputs are frozen and analysed
once, a checkpoint comes before each turn, and no worker processes help, whose seconds nobody would count.
"""

from __future__ import annotations

import gc
import statistics
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import psutil
import psycopg

SCHEMA = "org_benchmark"
MAKE = """
CREATE TABLE org_benchmark.forms__visits AS
SELECT 'r' || i AS _ds_row_id, timestamptz '2026-01-01' + i * interval '1 second' AS _ds_loaded_at,
       'District ' || i % 640 AS district, (i % 97)::bigint AS age, (random() * 90)::float8 AS weight,
       0.5 + random() AS height, CASE WHEN i % 500 = 0 THEN 'n.k.' ELSE (date '2024-01-01' + i % 900)::text END AS day,
       CASE WHEN i % 3 = 0 THEN 'water food' ELSE 'shelter' END AS choices
FROM generate_series(1, {rows}) i
"""
# what the language trims, and what a form may have put between two choices
SPACES = r"E' \t\n\r\f\v'"
BETWEEN = f"' ' || translate(choices, {SPACES}, '      ') || ' '"
ROW_WISE: dict[str, Any] = {
    "steps": [
        {"op": "filter", "where": {"column": "age", "operator": ">=", "value": 2}},
        {"op": "formula", "column": "bmi", "formula": "round(weight / height ^ 2, 1)"},
        {"op": "split_choices", "column": "choices", "choices": ["water", "shelter"]},
        {"op": "clean_text", "columns": ["district"], "actions": ["trim", "upper"]},
        {"op": "select", "columns": ["_ds_row_id", "district", "age", "bmi", "choices/water", "choices/shelter"]},
    ],
    "types": '_ds_row_id text, district text, age bigint, bmi float8, "choices/water" boolean,'
    ' "choices/shelter" boolean',
    "sql": f"""
SELECT _ds_row_id, upper(btrim(district, {SPACES})), age,
       round((weight / nullif(CASE WHEN abs(height) BETWEEN 1e-150 AND 1e150
             THEN power(height, 2) END, 0))::numeric, 1)::float8,
       strpos({BETWEEN}, ' water ') > 0, strpos({BETWEEN}, ' shelter ') > 0
FROM org_benchmark.forms__visits WHERE age >= 2""",
}
GROUPED: dict[str, Any] = {
    "steps": [
        {"op": "filter", "where": {"column": "age", "operator": ">=", "value": 2}},
        {"op": "join", "with": "people", "how": "left", "on": [{"left": "district", "right": "district"}]},
        {
            "op": "aggregate",
            "group_by": ["district", "people"],
            "aggregations": [
                {"fn": "count", "into": "visits"},
                {"fn": "avg", "column": "weight", "into": "weight"},
                {"fn": "sum", "column": "age", "into": "age"},
                {"fn": "count_distinct", "column": "choices", "into": "kinds"},
            ],
        },
    ],
    "types": "district text, people bigint, visits bigint, weight float8, age bigint, kinds bigint",
    "sql": """
SELECT v.district, p.people, count(*), avg(v.weight), sum(v.age)::bigint, count(DISTINCT v.choices)
FROM org_benchmark.forms__visits v LEFT JOIN org_benchmark.forms__people p ON p.district = v.district
WHERE v.age >= 2 GROUP BY v.district, p.people""",
}
WINDOWED: dict[str, Any] = {
    "steps": [
        {
            "op": "window",
            "fn": "running_sum",
            "column": "weight",
            "into": "so_far",
            "partition_by": ["district"],
            "order_by": ["_ds_loaded_at"],
        },
        {"op": "window", "fn": "rank", "into": "place", "partition_by": ["district"], "order_by": ["_ds_loaded_at"]},
        {"op": "select", "columns": ["_ds_row_id", "so_far", "place"]},
    ],
    "types": "_ds_row_id text, so_far float8, place bigint",
    "sql": """
SELECT _ds_row_id, sum(weight) OVER (w ROWS UNBOUNDED PRECEDING), rank() OVER w
FROM org_benchmark.forms__visits WINDOW w AS (PARTITION BY district ORDER BY _ds_loaded_at)""",
}
RESHAPED: dict[str, Any] = {
    "steps": [
        {"op": "select", "columns": ["_ds_row_id", "weight", "height"]},
        {"op": "unpivot", "columns": ["weight", "height"], "names_to": "what", "values_to": "value"},
    ],
    "types": "_ds_row_id text, what text, value float8",
    "sql": """
SELECT _ds_row_id, what, value
FROM org_benchmark.forms__visits CROSS JOIN LATERAL (VALUES ('weight', weight), ('height', height)) AS x (what, value)
""",
}
# the days that there are, leap years and all: a cast of any other would fail the whole statement
A_DAY = (
    "^(([0-9]{3}[1-9]|[0-9]{2}[1-9][0-9]|[0-9][1-9][0-9]{2}|[1-9][0-9]{3})-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])"
    "|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))"
    "|([0-9]{2}(0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)-02-29)$"
)
CASTING: dict[str, Any] = {
    "steps": [
        {"op": "cast", "columns": [{"column": "day", "to": "date"}]},
        {"op": "select", "columns": ["_ds_row_id", "district", "day"]},
    ],
    "types": "_ds_row_id text, district text, day date",
    "sql": f"""
SELECT _ds_row_id, district, CASE WHEN btrim(day, {SPACES}) ~ '{A_DAY}' THEN btrim(day, {SPACES})::date END
FROM org_benchmark.forms__visits""",
    "count": f"""
SELECT count(*) FROM org_benchmark.forms__visits
WHERE btrim(day, {SPACES}) <> '' AND btrim(day, {SPACES}) !~ '{A_DAY}'""",
}
DEDUPLICATED: dict[str, Any] = {
    "steps": [{"op": "deduplicate", "keys": ["district", "age"], "order_by": ["-_ds_loaded_at"]}],
    "types": "_ds_row_id text, _ds_loaded_at timestamptz, district text, age bigint, weight float8, height float8,"
    " day text, choices text",
    # which of several rows of one moment stays, must not hang on the plan
    "sql": """
SELECT DISTINCT ON (district, age) * FROM org_benchmark.forms__visits
ORDER BY district, age, _ds_loaded_at DESC, _ds_row_id, weight, height, day, choices""",
}
EXPANDED: dict[str, Any] = {
    "steps": [
        {"op": "select", "columns": ["_ds_row_id", "choices"]},
        {"op": "expand_list", "column": "choices", "delimiter": " "},
    ],
    "types": "_ds_row_id text, choices text",
    "sql": r"""
SELECT _ds_row_id, piece FROM org_benchmark.forms__visits
CROSS JOIN LATERAL regexp_split_to_table(choices, '[ \t\n\r\f\v]+') AS piece WHERE piece <> ''""",
}
# the same where no text comes twice, of which nothing can be remembered
SCATTERED: dict[str, Any] = {
    "steps": [
        {
            "op": "concat",
            "parts": [{"column": "_ds_row_id"}, {"text": "b"}, {"text": "c"}],
            "separator": " ",
            "into": "choices",
        },
        {"op": "select", "columns": ["_ds_row_id", "choices"]},
        {"op": "expand_list", "column": "choices", "delimiter": " "},
    ],
    "types": "_ds_row_id text, choices text",
    "sql": r"""
SELECT _ds_row_id, piece FROM org_benchmark.forms__visits
CROSS JOIN LATERAL regexp_split_to_table(_ds_row_id || ' b c', '[ \t\n\r\f\v]+') AS piece WHERE piece <> ''""",
}
PIVOTED: dict[str, Any] = {
    "steps": [
        {
            "op": "pivot",
            "group_by": ["district"],
            "names_from": "choices",
            "names": ["shelter", "water food"],
            "values_from": "weight",
            "fn": "avg",
        }
    ],
    "types": 'district text, shelter float8, "water food" float8',
    "sql": """
SELECT district, avg(weight) FILTER (WHERE choices = 'shelter'), avg(weight) FILTER (WHERE choices = 'water food')
FROM org_benchmark.forms__visits GROUP BY district""",
}

# by name: the recipe, and how many times the blocks it gets, being short
KINDS: dict[str, tuple[dict[str, Any], int]] = {
    "rowwise": (ROW_WISE, 1),
    "grouped": (GROUPED, 3),
    "casting": (CASTING, 1),
    "windowed": (WINDOWED, 1),
    "reshaped": (RESHAPED, 1),
    "deduplicated": (DEDUPLICATED, 1),
    "expanded": (EXPANDED, 1),
    "scattered": (SCATTERED, 1),
    "pivoted": (PIVOTED, 3),
}
BOUND = 1.05


class Bench:
    """A table of visits in a database of its own, and one connection whose server process is watched."""

    def __init__(self, url: str, rows: int) -> None:
        self.url = url
        self.connection = psycopg.connect(url, autocommit=True, prepare_threshold=None)
        self.connection.execute(f"CREATE SCHEMA {SCHEMA}")
        self.connection.execute(MAKE.format(rows=rows))
        self.connection.execute(
            f"CREATE TABLE {SCHEMA}.forms__people AS SELECT 'District ' || i AS district, i::bigint * 1000 AS people"
            " FROM generate_series(0, 600) i"
        )
        self.connection.execute("VACUUM (FREEZE, ANALYZE)")
        self.connection.execute("SET max_parallel_workers_per_gather = 0")
        self.server = psutil.Process(self.connection.info.backend_pid)
        self.client = psutil.Process()

    def cpu(self, action: Callable[[], object]) -> float:
        """CPU seconds of client and server process for the action."""
        self.connection.execute("CHECKPOINT")
        gc.collect()
        before = self._spent()
        action()
        return self._spent() - before

    def _spent(self) -> float:
        return sum(sum(process.cpu_times()[:2]) for process in (self.server, self.client))

    def build(self, name: str, steps: list[dict[str, Any]]) -> None:
        """Build a recipe of these steps."""
        import ibis

        from datasense_assets.recipes import Recipe, TableRef
        from datasense_assets.recipes.build import build_recipe
        from datasense_assets.recipes.inputs import ibis_type
        from datasense_assets.warehouse.reading import table_columns

        inputs = {
            alias: TableRef(
                SCHEMA,
                f"forms__{alias}",
                ibis.schema(
                    {c.name: ibis_type(c.pg_type) for c in table_columns(self.connection, SCHEMA, f"forms__{alias}")}
                ),
            )
            for alias in ("visits", "people")
        }
        sources = {alias: f"source:forms.{alias}" for alias in inputs}
        recipe = Recipe.parse({"version": 1, "name": name, "inputs": sources, "steps": steps})
        build_recipe(self.connection, SCHEMA, recipe, inputs)

    def by_hand(self, name: str, given: dict[str, Any]) -> None:
        """The same without a recipe."""
        with self.connection.transaction():
            self.connection.execute("SELECT set_config('work_mem', '64MB', true)")
            if "count" in given:
                self.connection.execute(given["count"]).fetchone()
            self.connection.execute(f"CREATE TABLE {SCHEMA}.new_{name} ({given['types']})")
            self.connection.execute(f"INSERT INTO {SCHEMA}.new_{name} {given['sql']}")
            self.connection.execute(f"ANALYZE {SCHEMA}.new_{name}")
            self.connection.execute(f"DROP TABLE IF EXISTS {SCHEMA}.{name}")
            self.connection.execute(f"ALTER TABLE {SCHEMA}.new_{name} RENAME TO {name}")

    def compare(self, name: str, given: dict[str, Any], blocks: int) -> None:
        """Print what both cost, and the ratio of the two in the middle block, in the quarters and in all."""
        self.build(f"{name}_recipe", given["steps"])
        self.by_hand(name, given)
        here, there = f"{SCHEMA}.{name}", f"{SCHEMA}.{name}_recipe"
        differing = self.connection.execute(
            f"SELECT (SELECT count(*) FROM (TABLE {here} EXCEPT ALL TABLE {there}) AS d)"
            f" + (SELECT count(*) FROM (TABLE {there} EXCEPT ALL TABLE {here}) AS d)"
        ).fetchone()
        made: list[float] = []
        hand: list[float] = []

        def turn(built: bool) -> None:
            if built:
                made.append(self.cpu(lambda: self.build(f"{name}_recipe", given["steps"])))
            else:
                hand.append(self.cpu(lambda: self.by_hand(name, given)))

        for number in range(blocks):
            first = number % 2 == 1
            for built in (first, not first, not first, first):
                turn(built)
        ratios = [sum(made[i : i + 2]) / sum(hand[i : i + 2]) for i in range(0, len(made), 2)]
        low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        told = f"{name:<12} recipe {statistics.median(made):5.2f} s, by hand {statistics.median(hand):5.2f} s"
        ratio = f"ratio {middle:5.3f} (quarters {low:5.3f} to {high:5.3f}, of the sums {sum(made) / sum(hand):5.3f})"
        verdict = "within" if middle <= BOUND else "BEYOND"
        print(f"{told}, {ratio}: {verdict} {BOUND}; {blocks} blocks, rows that differ: {differing[0]}", flush=True)

    def readers(self) -> None:
        """How long one reader after the other takes while a build goes on, and the longest of them."""
        query = f"SELECT age FROM {SCHEMA}.rowwise_recipe LIMIT 1"
        waited: list[float] = []
        done = threading.Event()

        def read() -> None:
            with psycopg.connect(self.url, autocommit=True) as reader:
                while not done.is_set():
                    start = time.perf_counter()
                    reader.execute(query).fetchone()
                    waited.append(time.perf_counter() - start)

        reader = threading.Thread(target=read)
        reader.start()
        start = time.perf_counter()
        self.build("rowwise_recipe", ROW_WISE["steps"])
        took = time.perf_counter() - start
        done.set()
        reader.join()
        usual = statistics.median(waited) * 1000
        longest = max(waited) * 1000
        print(
            f"readers      a build of {took:.1f} s: {len(waited)} reads, {usual:.1f} ms each, longest {longest:.0f} ms"
        )


def main(rows: int, blocks: int, kinds: Sequence[str]) -> None:
    """Print one line a measurement."""
    from datasense_assets.settings import get_settings
    from datasense_assets.warehouse.database import database_url

    server = database_url(get_settings())
    name = f"benchmark_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        try:
            bench = Bench(f"{server.rpartition('/')[0]}/{name}", rows)
            for kind in kinds:
                given, times = KINDS[kind]
                bench.compare(kind, given, blocks * times)
            if "rowwise" in kinds:
                bench.readers()
            bench.connection.close()
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


if __name__ == "__main__":
    main(
        int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000,
        int(sys.argv[2]) if len(sys.argv) > 2 else 5,
        sys.argv[3:] or list(KINDS),
    )
