"""The 22 questions of TPC-H as recipes. What SQL nests, a recipe says in a row: a window where SQL correlates."""

from __future__ import annotations

from typing import Any

Step = dict[str, Any]

REVENUE = "l_extendedprice * (1 - l_discount)"


def where(column: str, operator: str, value: Any = None, **more: Any) -> Step:
    given = {} if value is None else {"value": value}
    return {"column": column, "operator": operator, **given, **more}


def keep(*conditions: Step) -> Step:
    return {"op": "filter", "where": conditions[0] if len(conditions) == 1 else {"all": list(conditions)}}


def join(table: str, *pairs: str, how: str = "inner", **more: Any) -> Step:
    """`left=right` each."""
    on = [dict(zip(("left", "right"), pair.split("="), strict=True)) for pair in pairs]
    return {"op": "join", "with": table, "how": how, "on": on, **more}


def put(column: str, formula: str) -> Step:
    return {"op": "formula", "column": column, "formula": formula}


def group(by: str, *figures: tuple[Any, ...]) -> Step:
    """Figures as (function, column or None, into, filter)."""
    items = []
    for fn, column, into, *condition in figures:
        item = {"fn": fn, "into": into} | ({"column": column} if column else {})
        items.append(item | ({"filter": condition[0]} if condition else {}))
    return {"op": "aggregate", "group_by": by.split(), "aggregations": items}


def over(fn: str, column: str, into: str, partition_by: str = "") -> Step:
    step: Step = {"op": "window", "fn": fn, "column": column, "into": into}
    return step | ({"partition_by": partition_by.split()} if partition_by else {})


def sort(by: str) -> Step:
    return {"op": "sort", "by": by.split()}


def only(columns: str) -> Step:
    return {"op": "select", "columns": columns.split()}


def limit(rows: int) -> Step:
    return {"op": "limit", "rows": rows}


def rename(**names: str) -> Step:
    return {"op": "rename", "columns": {old: new for new, old in names.items()}}


def year_of(column: str, into: str) -> Step:
    return {"op": "date_part", "column": column, "part": "year", "into": into}


def dates(column: str, first: str, before: str) -> tuple[Step, Step]:
    return where(column, ">=", first), where(column, "<", before)


def brand(name: str, containers: str, quantities: tuple[int, int], size: int) -> Step:
    return {
        "all": [
            where("p_brand", "=", name),
            where("p_container", "in", containers.split(", ")),
            where("l_quantity", "between", list(quantities)),
            where("p_size", "between", [1, size]),
        ]
    }


def recipes(scale: float) -> dict[int, tuple[str, list[Step], str]]:
    """By number: the tables (the first is where the steps start), the steps, and what is worth knowing.

    One question, 11, depends on the scale factor.
    """
    late = where("l_receiptdate", ">", value_column="l_commitdate")
    return {
        1: (
            "lineitem",
            [
                keep(where("l_shipdate", "<=", "1998-09-02")),
                put("disc_price", REVENUE),
                put("charge", "disc_price * (1 + l_tax)"),
                group(
                    "l_returnflag l_linestatus",
                    ("sum", "l_quantity", "sum_qty"),
                    ("sum", "l_extendedprice", "sum_base_price"),
                    ("sum", "disc_price", "sum_disc_price"),
                    ("sum", "charge", "sum_charge"),
                    ("avg", "l_quantity", "avg_qty"),
                    ("avg", "l_extendedprice", "avg_price"),
                    ("avg", "l_discount", "avg_disc"),
                    ("count", None, "count_order"),
                ),
                sort("l_returnflag l_linestatus"),
            ],
            "",
        ),
        2: (
            "part partsupp supplier nation region",
            [
                keep(where("p_size", "=", 15), where("p_type", "ends_with", "BRASS")),
                join("partsupp", "p_partkey=ps_partkey"),
                join("supplier", "ps_suppkey=s_suppkey"),
                join("nation", "s_nationkey=n_nationkey"),
                join("region", "n_regionkey=r_regionkey"),
                keep(where("r_name", "=", "EUROPE")),
                over("min", "ps_supplycost", "least_cost", "p_partkey"),
                keep(where("ps_supplycost", "=", value_column="least_cost")),
                sort("-s_acctbal n_name s_name p_partkey"),
                limit(100),
                only("s_acctbal s_name n_name p_partkey p_mfgr s_address s_phone s_comment"),
            ],
            "the least cost of a part is a window's minimum",
        ),
        3: (
            "customer orders lineitem",
            [
                keep(where("c_mktsegment", "=", "BUILDING")),
                join("orders", "c_custkey=o_custkey"),
                keep(where("o_orderdate", "<", "1995-03-15")),
                join("lineitem", "o_orderkey=l_orderkey"),
                keep(where("l_shipdate", ">", "1995-03-15")),
                put("volume", REVENUE),
                group("o_orderkey o_orderdate o_shippriority", ("sum", "volume", "revenue")),
                sort("-revenue o_orderdate"),
                limit(10),
                only("o_orderkey revenue o_orderdate o_shippriority"),
            ],
            "",
        ),
        4: (
            "lineitem orders",
            [
                keep(late),
                join("orders", "l_orderkey=o_orderkey"),
                keep(*dates("o_orderdate", "1993-07-01", "1993-10-01")),
                group("o_orderpriority", ("count_distinct", "l_orderkey", "order_count")),
                sort("o_orderpriority"),
            ],
            "orders with a late line are counted by their distinct keys",
        ),
        5: (
            "customer orders lineitem supplier nation region",
            [
                join("orders", "c_custkey=o_custkey"),
                keep(*dates("o_orderdate", "1994-01-01", "1995-01-01")),
                join("lineitem", "o_orderkey=l_orderkey"),
                join("supplier", "l_suppkey=s_suppkey", "c_nationkey=s_nationkey"),
                join("nation", "c_nationkey=n_nationkey"),
                join("region", "n_regionkey=r_regionkey"),
                keep(where("r_name", "=", "ASIA")),
                put("volume", REVENUE),
                group("n_name", ("sum", "volume", "revenue")),
                sort("-revenue"),
            ],
            "",
        ),
        6: (
            "lineitem",
            [
                keep(
                    *dates("l_shipdate", "1994-01-01", "1995-01-01"),
                    where("l_discount", "between", [0.05, 0.07]),
                    where("l_quantity", "<", 24),
                ),
                put("saved", "l_extendedprice * l_discount"),
                group("", ("sum", "saved", "revenue")),
            ],
            "",
        ),
        7: (
            "supplier lineitem orders customer nation",
            [
                join("lineitem", "s_suppkey=l_suppkey"),
                keep(where("l_shipdate", "between", ["1995-01-01", "1996-12-31"])),
                join("orders", "l_orderkey=o_orderkey"),
                join("customer", "o_custkey=c_custkey"),
                join("nation", "s_nationkey=n_nationkey", columns=["n_name"]),
                rename(supp_nation="n_name"),
                join("nation", "c_nationkey=n_nationkey", columns=["n_name"]),
                rename(cust_nation="n_name"),
                {
                    "op": "filter",
                    "where": {
                        "any": [
                            {"all": [where("supp_nation", "=", one), where("cust_nation", "=", two)]}
                            for one, two in (("FRANCE", "GERMANY"), ("GERMANY", "FRANCE"))
                        ]
                    },
                },
                year_of("l_shipdate", "l_year"),
                put("volume", REVENUE),
                group("supp_nation cust_nation l_year", ("sum", "volume", "revenue")),
                sort("supp_nation cust_nation l_year"),
            ],
            "",
        ),
        8: (
            "part lineitem supplier orders customer nation region",
            [
                keep(where("p_type", "=", "ECONOMY ANODIZED STEEL")),
                join("lineitem", "p_partkey=l_partkey"),
                join("supplier", "l_suppkey=s_suppkey"),
                join("orders", "l_orderkey=o_orderkey"),
                keep(where("o_orderdate", "between", ["1995-01-01", "1996-12-31"])),
                join("customer", "o_custkey=c_custkey"),
                join("nation", "c_nationkey=n_nationkey", columns=["n_regionkey"]),
                join("region", "n_regionkey=r_regionkey"),
                keep(where("r_name", "=", "AMERICA")),
                join("nation", "s_nationkey=n_nationkey", columns=["n_name"]),
                year_of("o_orderdate", "o_year"),
                put("volume", REVENUE),
                group(
                    "o_year",
                    ("sum", "volume", "brazil", where("n_name", "=", "BRAZIL")),
                    ("sum", "volume", "whole"),
                ),
                put("mkt_share", "coalesce(brazil, 0.0) / whole"),
                sort("o_year"),
                only("o_year mkt_share"),
            ],
            "",
        ),
        9: (
            "part lineitem supplier partsupp orders nation",
            [
                keep(where("p_name", "contains", "green")),
                join("lineitem", "p_partkey=l_partkey"),
                join("supplier", "l_suppkey=s_suppkey"),
                join("partsupp", "p_partkey=ps_partkey", "l_suppkey=ps_suppkey"),
                join("orders", "l_orderkey=o_orderkey"),
                join("nation", "s_nationkey=n_nationkey"),
                year_of("o_orderdate", "o_year"),
                put("amount", f"{REVENUE} - ps_supplycost * l_quantity"),
                group("n_name o_year", ("sum", "amount", "sum_profit")),
                sort("n_name -o_year"),
            ],
            "",
        ),
        10: (
            "customer orders lineitem nation",
            [
                join("orders", "c_custkey=o_custkey"),
                keep(*dates("o_orderdate", "1993-10-01", "1994-01-01")),
                join("lineitem", "o_orderkey=l_orderkey"),
                keep(where("l_returnflag", "=", "R")),
                join("nation", "c_nationkey=n_nationkey"),
                put("volume", REVENUE),
                group(
                    "c_custkey c_name c_acctbal c_phone n_name c_address c_comment",
                    ("sum", "volume", "revenue"),
                ),
                sort("-revenue"),
                limit(20),
                only("c_custkey c_name revenue c_acctbal n_name c_address c_phone c_comment"),
            ],
            "",
        ),
        11: (
            "partsupp supplier nation",
            [
                join("supplier", "ps_suppkey=s_suppkey"),
                join("nation", "s_nationkey=n_nationkey"),
                keep(where("n_name", "=", "GERMANY")),
                put("held", "ps_supplycost * ps_availqty"),
                group("ps_partkey", ("sum", "held", "value")),
                over("sum", "value", "whole"),
                put("least", f"whole * {0.0001 / scale!r}"),
                keep(where("value", ">", value_column="least")),
                sort("-value"),
                only("ps_partkey value"),
            ],
            "the sum of all parts is a window's; the threshold is 0.0001 divided by the scale factor",
        ),
        12: (
            "lineitem orders",
            [
                keep(
                    where("l_shipmode", "in", ["MAIL", "SHIP"]),
                    late,
                    where("l_shipdate", "<", value_column="l_commitdate"),
                    *dates("l_receiptdate", "1994-01-01", "1995-01-01"),
                ),
                join("orders", "l_orderkey=o_orderkey"),
                group(
                    "l_shipmode",
                    ("count", None, "high_line_count", where("o_orderpriority", "in", ["1-URGENT", "2-HIGH"])),
                    ("count", None, "low_line_count", where("o_orderpriority", "not_in", ["1-URGENT", "2-HIGH"])),
                ),
                sort("l_shipmode"),
            ],
            "",
        ),
        13: (
            "orders customer",
            [
                keep({"not": where("o_comment", "matches", "special.*requests")}),
                join("customer", "o_custkey=c_custkey", how="right"),
                group("o_custkey", ("count", "o_orderkey", "c_count")),
                group("c_count", ("count", None, "custdist")),
                sort("-custdist -c_count"),
            ],
            "orders come first, since a join takes the other table as it is; a right join keeps who never ordered",
        ),
        14: (
            "lineitem part",
            [
                keep(*dates("l_shipdate", "1995-09-01", "1995-10-01")),
                join("part", "l_partkey=p_partkey"),
                put("volume", REVENUE),
                group(
                    "",
                    ("sum", "volume", "promo", where("p_type", "starts_with", "PROMO")),
                    ("sum", "volume", "whole"),
                ),
                put("promo_revenue", "100 * promo / whole"),
                only("promo_revenue"),
            ],
            "",
        ),
        15: (
            "lineitem supplier",
            [
                keep(*dates("l_shipdate", "1996-01-01", "1996-04-01")),
                put("volume", REVENUE),
                group("l_suppkey", ("sum", "volume", "total_revenue")),
                over("max", "total_revenue", "most"),
                keep(where("total_revenue", "=", value_column="most")),
                join("supplier", "l_suppkey=s_suppkey"),
                sort("l_suppkey"),
                only("l_suppkey s_name s_address s_phone total_revenue"),
            ],
            "the greatest revenue is a window's maximum",
        ),
        16: (
            "partsupp part supplier",
            [
                join("part", "ps_partkey=p_partkey"),
                keep(
                    where("p_brand", "!=", "Brand#45"),
                    {"not": where("p_type", "starts_with", "MEDIUM POLISHED")},
                    where("p_size", "in", [49, 14, 23, 45, 19, 3, 36, 9]),
                ),
                join("supplier", "ps_suppkey=s_suppkey"),
                keep({"not": where("s_comment", "matches", "Customer.*Complaints")}),
                group("p_brand p_type p_size", ("count_distinct", "ps_suppkey", "supplier_cnt")),
                sort("-supplier_cnt p_brand p_type p_size"),
            ],
            "",
        ),
        17: (
            "part lineitem",
            [
                keep(where("p_brand", "=", "Brand#23"), where("p_container", "=", "MED BOX")),
                join("lineitem", "p_partkey=l_partkey"),
                over("avg", "l_quantity", "usual", "p_partkey"),
                put("little", "0.2 * usual"),
                keep(where("l_quantity", "<", value_column="little")),
                group("", ("sum", "l_extendedprice", "whole")),
                put("avg_yearly", "whole / 7"),
                only("avg_yearly"),
            ],
            "the average of a part is a window's",
        ),
        18: (
            "lineitem orders customer",
            [
                group("l_orderkey", ("sum", "l_quantity", "quantity")),
                keep(where("quantity", ">", 300)),
                join("orders", "l_orderkey=o_orderkey"),
                join("customer", "o_custkey=c_custkey"),
                sort("-o_totalprice o_orderdate"),
                limit(100),
                only("c_name o_custkey l_orderkey o_orderdate o_totalprice quantity"),
            ],
            "",
        ),
        19: (
            "lineitem part",
            [
                keep(
                    where("l_shipmode", "in", ["AIR", "AIR REG"]),
                    where("l_shipinstruct", "=", "DELIVER IN PERSON"),
                ),
                join("part", "l_partkey=p_partkey"),
                {
                    "op": "filter",
                    "where": {
                        "any": [
                            brand("Brand#12", "SM CASE, SM BOX, SM PACK, SM PKG", (1, 11), 5),
                            brand("Brand#23", "MED BAG, MED BOX, MED PKG, MED PACK", (10, 20), 10),
                            brand("Brand#34", "LG CASE, LG BOX, LG PACK, LG PKG", (20, 30), 15),
                        ]
                    },
                },
                put("volume", REVENUE),
                group("", ("sum", "volume", "revenue")),
            ],
            "",
        ),
        20: (
            "lineitem partsupp part supplier nation",
            [
                keep(*dates("l_shipdate", "1994-01-01", "1995-01-01")),
                group("l_partkey l_suppkey", ("sum", "l_quantity", "shipped")),
                join("partsupp", "l_partkey=ps_partkey", "l_suppkey=ps_suppkey"),
                put("half", "0.5 * shipped"),
                keep(where("ps_availqty", ">", value_column="half")),
                join("part", "l_partkey=p_partkey"),
                keep(where("p_name", "starts_with", "forest")),
                join("supplier", "l_suppkey=s_suppkey"),
                join("nation", "s_nationkey=n_nationkey"),
                keep(where("n_name", "=", "CANADA")),
                {"op": "deduplicate", "keys": ["l_suppkey"]},
                sort("s_name"),
                only("s_name s_address"),
            ],
            "two nested questions are said from the inside out",
        ),
        21: (
            "lineitem again orders supplier nation",
            [
                group(
                    "l_orderkey",
                    ("count_distinct", "l_suppkey", "suppliers"),
                    ("count_distinct", "l_suppkey", "late_suppliers", late),
                ),
                keep(where("suppliers", ">", 1), where("late_suppliers", "=", 1)),
                join("again", "l_orderkey=l_orderkey"),
                keep(late),
                join("orders", "l_orderkey=o_orderkey"),
                keep(where("o_orderstatus", "=", "F")),
                join("supplier", "l_suppkey=s_suppkey"),
                join("nation", "s_nationkey=n_nationkey"),
                keep(where("n_name", "=", "SAUDI ARABIA")),
                group("s_name", ("count", None, "numwait")),
                sort("-numwait s_name"),
                limit(100),
            ],
            "the lines are read twice: orders with several suppliers and one late one, then the lines of these",
        ),
        22: (
            "customer orders",
            [
                put("cntrycode", "left(c_phone, 2)"),
                keep(
                    where("cntrycode", "in", ["13", "31", "23", "29", "30", "18", "17"]),
                    where("c_acctbal", ">", 0.0),
                ),
                over("avg", "c_acctbal", "usual"),
                keep(where("c_acctbal", ">", value_column="usual")),
                join("orders", "c_custkey=o_custkey", how="anti"),
                group("cntrycode", ("count", None, "numcust"), ("sum", "c_acctbal", "totacctbal")),
                sort("cntrycode"),
            ],
            "the average of all accounts is a window's",
        ),
    }
