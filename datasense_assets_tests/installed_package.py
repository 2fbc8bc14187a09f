"""A package as pip would have installed it: a module and its metadata in a folder that is on the path."""

from __future__ import annotations

from pathlib import Path


def install(folder: Path, name: str, source: str, connectors: dict[str, str], version: str = "1.0") -> None:
    """Write module `name` with `source`; `connectors` are its entry points, kind → `module:Class`."""
    (folder / f"{name}.py").write_text(source, encoding="utf-8")
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    points = "".join(f"{kind} = {target}\n" for kind, target in connectors.items())
    (info / "entry_points.txt").write_text(f"[datasense_assets.connectors]\n{points}", encoding="utf-8")


# A whole connector: what docs/connectors.md shows, word for word.
LIGHTHOUSES = '''
from datasense_assets.connectors.base import ROW_ID, ColumnInfo, Page, TableInfo
from datasense_assets.connectors.config import ApiRoot, ConnectorConfig
from datasense_assets.connectors.errors import BadConfig
from datasense_assets.connectors.http_connector import HttpConnector


class Config(ConnectorConfig):
    """`base_url`: the register's address."""

    CREDENTIALS = (frozenset({"username", "password"}),)
    base_url: ApiRoot


class LighthouseConnector(HttpConnector):
    kind = "lighthouses"
    has_history = False
    Config = Config

    def check(self):
        return f"The register has {len(self._towers())} lighthouses."

    def discover(self):
        return self.describe("towers")

    def describe(self, resource):
        columns = tuple(ColumnInfo(key, key.title()) for key in ("name", "height"))
        return [TableInfo(resource, "Lighthouses", columns)]

    def read(self, request):
        if request.window is not None:
            raise BadConfig("The register keeps no history.", advice="Fill the newest partition.")
        import pyarrow as pa

        towers = self._towers()
        columns = {ROW_ID: "id", "name": "name", "height": "height"}
        yield Page((), pa.table({c: pa.array([str(t[k]) for t in towers], pa.string()) for c, k in columns.items()}))

    def _towers(self):
        return self.client.get_json(f"{self.config.base_url}/towers.json")
'''
