"""`datasense lineage`: where columns come from and what hangs on them, as words, JSON, Mermaid or a drawing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from datasense_assets.cli.address import open_catalog, read_organization, unknown
from datasense_assets.cli.errors import InputWrong
from datasense_assets.cli.output import JsonFlag, print_json, print_text, say

if TYPE_CHECKING:
    from datasense_assets.catalog.lineage import Edge, LineageGraph, Point

_FORM = "ORG[/TABLE[.COLUMN]]"
_DOUBLED = re.compile("%(?=%)")
_STATES = {
    "stale": "changed since; this is the lineage of before",
    "unknown": "not compiled yet, or has mistakes: see datasense check",
    "missing": "not in the catalog",
}


def lineage(
    what: Annotated[
        str,
        typer.Argument(metavar=_FORM, help="TABLE is SOURCE/TABLE or a recipe's name."),
    ],
    down: Annotated[bool, typer.Option("--down", help="What hangs on it, instead of where it comes from.")] = False,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="Print a Mermaid flowchart.")] = False,
    svg: Annotated[bool, typer.Option("--svg", help="Print a drawing; redirect it to a file.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show which columns a column is made of, back to the questions of the forms, or with --down what is made of it.

    Filters, join keys, groups and sorts decide which rows there are; they are told apart from what goes into values.
    """
    if mermaid + svg + as_json > 1:
        raise InputWrong("--json, --mermaid and --svg exclude each other.", advice="Leave all but one out.")
    slug, _, rest = what.strip().strip("/").partition("/")
    graph = _graph(slug)
    if rest:
        points = named_points(graph, rest, slug)
        graph = graph.downstream(points) if down else graph.upstream(points)
    for table in graph.tables.values():
        if table.state != "current":
            say(f"{table.address}: {_STATES[table.state]}.", style="yellow")
    if as_json:
        print_json(document(slug, graph))
    elif mermaid:
        print_text(flowchart(graph))
    elif svg:
        from datasense_assets.cli.lineage_svg import drawing

        print_text(drawing(graph))
    else:
        print_text("\n".join(described(graph)) or "No table is known yet.")


def _graph(slug: str) -> LineageGraph:
    """The organisation's lineage, brought up to its recipes first as far as they compile."""
    from datasense_assets.catalog.state import read_lineage
    from datasense_assets.recipes.recording import refresh_lineage

    with open_catalog() as catalog, catalog.begin() as connection:
        org = read_organization(connection, slug)
        refresh_lineage(connection, org)
        return read_lineage(connection, org.id)


def named_points(graph: LineageGraph, text: str, org: str) -> list[Point]:
    """The columns that `TABLE` or `TABLE.COLUMN` names; names of columns may have dots and slashes in them.

    A recipe may be called `recipes/NAME` too, as its asset is.

    Raises:
        InputWrong: there is no such table or column.

    """
    from datasense_assets.catalog.lineage import Point
    from datasense_assets.catalog.models import identifier

    for reference, table in graph.tables.items():
        short = identifier(table.address.removeprefix("recipes/"))
        plain = identifier(text.removeprefix("recipes/"))
        if plain in (short, short.replace("/", "__")):
            return graph.points(reference) or [Point(reference, "")]
    for reference, table in graph.tables.items():
        prefixed = [] if "/" in table.address else [f"recipes/{table.address}"]
        for form in (table.address, table.address.replace("/", "__"), *prefixed):
            head, column = text[: len(form)], text[len(form) + 1 :]
            if identifier(head) == identifier(form) and text[len(form) : len(form) + 1] == "." and column:
                if column not in table.columns:
                    raise unknown("column", column, table.columns, where=f"{org}/{table.address}")
                return [Point(reference, column)]
    raise unknown("table or recipe", text, (table.address for table in graph.tables.values()), where=org)


def described(graph: LineageGraph) -> Iterable[str]:
    """Lines for people: tables, their columns, and of each what it is made of."""

    def at(edge: Edge) -> str:
        return f"{graph.tables[edge.source.table].address}.{edge.source.column}"

    for table in graph.in_order():
        edges = graph.into.get(table.reference, ())
        yield table.address + (f"  {table.title}" if table.title else "")
        for column in table.columns.values():
            sources = ", ".join(at(edge) for edge in edges if edge.column == column.name)
            marks = "".join([" (personal)" if column.personal else "", " (missing)" if column.missing else ""])
            # a question may have lines of its own
            label = f"  {' '.join(column.label.split())}" if column.label and column.label != column.name else ""
            yield f"  {column.name}{marks}{label}" + (f" ← {sources}" if sources else "")
        by_use: dict[str, list[str]] = {}
        for edge in graph.row_edges(table.reference):
            by_use.setdefault(edge.use, []).append(at(edge))
        for use, sources_of in by_use.items():
            yield f"  ({use}) ← {', '.join(sources_of)}"


def document(slug: str, graph: LineageGraph) -> dict[str, Any]:
    """The graph as plain data: tables with columns, and edges between them; `to.column` is null for uses of rows."""
    address = {reference: table.address for reference, table in graph.tables.items()}
    return {
        "organization": slug,
        "tables": [
            {
                "table": table.address,
                "kind": table.reference.partition(":")[0],
                "title": table.title or None,
                "state": table.state,
                "columns": [
                    {
                        "name": column.name,
                        "type": column.type,
                        "label": column.label or None,
                        "personal": column.personal,
                        "missing": column.missing,
                    }
                    for column in table.columns.values()
                ],
            }
            for table in graph.in_order()
        ],
        "edges": [
            {
                "from": {"table": address[edge.source.table], "column": edge.source.column},
                "to": {"table": address[edge.table], "column": edge.column},
                "use": edge.use,
            }
            for edge in graph.edges
        ],
    }


def flowchart(graph: LineageGraph) -> str:
    """The graph as a Mermaid flowchart; what decides rows is dotted."""
    lines = ["flowchart LR"]
    numbers: dict[tuple[str, str], str] = {}
    groups: dict[str, str] = {}
    for index, table in enumerate(graph.in_order()):
        groups[table.reference] = f"t{index}"
        lines.append(f'  subgraph t{index}["{_quoted(table.address)}"]')
        for column in table.columns.values():
            name = numbers[table.reference, column.name] = f"c{len(numbers)}"
            label = f"<br/>{_quoted(column.label)}" if column.label and column.label != column.name else ""
            lines.append(f'    {name}["{_quoted(column.name)}{label}"]')
        lines.append("  end")
    for table in graph.in_order():
        for edge in graph.into.get(table.reference, ()):
            if edge.column is not None:
                source = numbers[edge.source.table, edge.source.column]
                lines.append(f"  {source} --> {numbers[edge.table, edge.column]}")
        for edge in graph.row_edges(table.reference):
            source = numbers[edge.source.table, edge.source.column]
            lines.append(f"  {source} -. {edge.use} .-> {groups[edge.table]}")
    return "\n".join(lines)


def _quoted(text: str) -> str:
    """Text between a Mermaid node's quotes: nothing in it is markup."""
    for plain, code in (("#", "#35;"), ("&", "#amp;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;"), ("`", "#96;")):
        text = text.replace(plain, code)
    # two of them begin a directive, which Mermaid obeys wherever it stands
    return " ".join(_DOUBLED.sub("#37;", text).split()) or "#160;"
