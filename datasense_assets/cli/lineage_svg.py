"""A lineage graph as one SVG: tables as boxes from left to right, a line from each column to what is made of it."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

if TYPE_CHECKING:
    from datasense_assets.catalog.lineage import Edge, LineageColumn, LineageGraph, LineageTable

ROW, HEAD, PAD, GAP_X, GAP_Y = 20, 28, 10, 130, 24
CHARACTER = 7.4
LONGEST_NAME, LONGEST_LABEL = 40, 38

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that a name or a question may have and that XML has no way to write."""

_STYLE = """\
text { font: 12px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, "Noto Sans", monospace; fill: #1f2933; }
.title { font-weight: bold; } .label, .rows { fill: #66727f; }
.missing { fill: #c0392b; text-decoration: line-through; }
.box { fill: #ffffff; stroke: #9aa5b1; } .head { fill: #e4ecf7; } .recipe .head { fill: #e6f4ea; }
.gone .head { fill: #fbe4e2; } .stale .box { stroke-dasharray: 5 3; }
path { fill: none; stroke: #4a7fb5; stroke-width: 1.3; stroke-opacity: .75; }
path.row { stroke: #b07a2a; stroke-dasharray: 4 3; } path:hover { stroke-width: 3; stroke-opacity: 1; }"""


@dataclass(frozen=True)
class _Box:
    """Where a table stands; `rows` are its lines of text from the top, None for the line of its rows."""

    table: LineageTable
    x: float
    y: float
    width: float
    rows: tuple[LineageColumn | None, ...]

    @property
    def height(self) -> float:
        return HEAD + ROW * len(self.rows) + PAD / 2

    def middle(self, column: str | None) -> float:
        """The height of a column's line, or of the line of the rows."""
        for index, row in enumerate(self.rows):
            if (row.name if row is not None else None) == column:
                return self.y + HEAD + ROW * index + ROW / 2
        return self.y + HEAD / 2


def drawing(graph: LineageGraph) -> str:
    """The whole SVG document, with nothing in it from elsewhere: no font, no script, no link."""
    boxes = _placed(graph)
    width = max((box.x + box.width for box in boxes.values()), default=0) + PAD
    height = max((box.y + box.height for box in boxes.values()), default=0) + PAD
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img">',
        "<title>Lineage of columns</title>",
        f"<style>{_STYLE}</style>",
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#f7f9fb"/>',
    ]
    for reference in boxes:
        edges = [edge for edge in graph.into.get(reference, ()) if edge.column is not None]
        parts += [_line(edge, boxes) for edge in (*edges, *graph.row_edges(reference))]
    parts += [_box(box) for box in boxes.values()]
    return _NO_XML.sub("", "\n".join([*parts, "</svg>"]))


def _placed(graph: LineageGraph) -> dict[str, _Box]:
    """Tables in columns by how deep they are, each as near as can be to what it is made of."""
    depth = graph.order()
    layers: dict[int, list[LineageTable]] = {}
    for table in graph.in_order():
        layers.setdefault(depth[table.reference], []).append(table)
    boxes: dict[str, _Box] = {}
    x = float(PAD)
    for level in sorted(layers):
        y = float(PAD)
        widest = 0.0
        for table in sorted(layers[level], key=lambda each: (_wanted(each, graph, boxes), each.address)):
            lines: list[LineageColumn | None] = [None] if graph.row_edges(table.reference) else []
            rows = (*lines, *table.columns.values())
            width = max([_long(_head(table)), *(_long(f"{_name(row)}  {_label(row)}") for row in rows)])
            boxes[table.reference] = box = _Box(table, x, y, width * CHARACTER + 2 * PAD, rows)
            y += box.height + GAP_Y
            widest = max(widest, box.width)
        x += widest + GAP_X
    return boxes


def _wanted(table: LineageTable, graph: LineageGraph, boxes: dict[str, _Box]) -> float:
    """The mean height of the columns that the table uses."""
    heights = [
        boxes[edge.source.table].middle(edge.source.column)
        for edge in graph.into.get(table.reference, ())
        if edge.source.table in boxes
    ]
    return sum(heights) / len(heights) if heights else 0.0


def _line(edge: Edge, boxes: dict[str, _Box]) -> str:
    source, target = boxes[edge.source.table], boxes[edge.table]
    x1, y1 = source.x + source.width, source.middle(edge.source.column)
    x2, y2 = target.x, target.middle(edge.column)
    bend = max(abs(x2 - x1) / 2, 40)
    made = f"{target.table.address}.{edge.column}" if edge.column is not None else f"rows of {target.table.address}"
    said = f"{source.table.address}.{edge.source.column} → {made} ({edge.use})"
    kind = "value" if edge.column is not None else "row"
    return (
        f'<path class="{kind}" d="M{x1:.1f} {y1:.1f} C{x1 + bend:.1f} {y1:.1f} {x2 - bend:.1f} {y2:.1f} '
        f'{x2:.1f} {y2:.1f}"><title>{escape(said)}</title></path>'
    )


def _box(box: _Box) -> str:
    table = box.table
    kind = {"missing": "gone", "stale": "stale"}.get(table.state, "")
    classes = " ".join(filter(None, [table.reference.partition(":")[0], kind]))
    lines = [
        f"<g class={quoteattr(classes)}>",
        f'<rect class="box" x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="4"/>',
        f'<rect class="head" x="{box.x + 1:.1f}" y="{box.y + 1:.1f}" width="{box.width - 2:.1f}" height="{HEAD - 4}" '
        'rx="3"/>',
        f'<text class="title" x="{box.x + PAD:.1f}" y="{box.y + 17:.1f}">{escape(_head(table))}'
        f"<title>{escape(table.title or table.address)}</title></text>",
    ]
    for index, row in enumerate(box.rows):
        y = box.y + HEAD + ROW * index + 14
        place = f'x="{box.x + PAD:.1f}" y="{y:.1f}"'
        if row is None:
            lines.append(f'<text class="rows" {place}>which rows</text>')
            continue
        missing = ' class="missing"' if row.missing else ""
        label = f'  <tspan class="label" dx="8">{escape(_label(row))}</tspan>' if _label(row) else ""
        said = f"{row.name} ({row.type or 'type not known'}): {row.label or row.name}"
        lines.append(f"<text{missing} {place}>{escape(_name(row))}{label}<title>{escape(said)}</title></text>")
    return "\n".join([*lines, "</g>"])


def _head(table: LineageTable) -> str:
    return table.address + ("" if table.state == "current" else f" ({table.state})")


def _name(column: LineageColumn | None) -> str:
    return "which rows" if column is None else _shortened(column.name, LONGEST_NAME)


def _label(column: LineageColumn | None) -> str:
    if column is None:
        return ""
    label = "" if column.label == column.name else _shortened(column.label, LONGEST_LABEL)
    return f"{label} (personal)".strip() if column.personal else label


def _shortened(text: str, longest: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _long(text: str) -> int:
    """How many characters of usual width the text takes."""
    marks = ("Mn", "Me", "Cf")
    return sum(
        0 if unicodedata.category(c) in marks else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )
