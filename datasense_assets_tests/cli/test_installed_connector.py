"""A connector that another package registers, from the manifest to the warehouse, by the command line."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from datasense_assets_tests.cli.conftest import CommandLine
from datasense_assets_tests.installed_package import LIGHTHOUSES, install

pytestmark = pytest.mark.xdist_group("cli-runs")
TOWERS = [{"id": 1, "name": "Pharos", "height": 100}, {"id": 2, "name": "Fastnet", "height": 54}]


@pytest.fixture
def register() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(TOWERS).encode()
            self.send_response(200 if self.headers["Authorization"] else 401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_package_is_installed_and_its_sources_are_synced(
    datasense: CommandLine, register: str, tmp_path: Path
) -> None:
    packages = tmp_path / "site-packages"
    packages.mkdir()
    install(packages, "lighthouse_register", LIGHTHOUSES, {"lighthouses": "lighthouse_register:LighthouseConnector"})
    install(packages, "broken_register", "import nothing_of_that_name\n", {"wrecks": "broken_register:Wrecks"})
    variables = {
        "PYTHONPATH": os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(packages)]),
        "DATASENSE_ALLOW_PRIVATE_ADDRESSES": "true",
        "REGISTER_USER": "keeper",
        "REGISTER_PASSWORD": "s3cret",
    }
    source = {
        "slug": "towers",
        "connector": "lighthouses",
        "config": {"base_url": register},
        "credentials": {"username": {"env": "REGISTER_USER"}, "password": {"env": "REGISTER_PASSWORD"}},
        "schedule": "manual",
    }
    manifest = datasense.manifest(sources=[source])
    applied = datasense.process("apply", manifest, **variables)
    assert applied.code == 0, applied.words
    synced = datasense.process("sync", f"{datasense.org}/towers", "--local", "--json", **variables)
    assert synced.code == 0, synced.words
    schema = f"org_{datasense.org.replace('-', '_')}"
    assert datasense.rows(f"SELECT name, height FROM {schema}.towers__lighthouses ORDER BY 2") == [
        ("Fastnet", 54),
        ("Pharos", 100),
    ]
    listed = datasense.process("list", "connectors", "--json", **variables).document["connectors"]
    by_name = {row["name"]: row for row in listed}
    assert by_name["lighthouses"] | {"problem": ""} == by_name["lighthouses"]
    assert by_name["lighthouses"]["from"] == "lighthouse_register 1.0"
    assert "nothing_of_that_name" in by_name["wrecks"]["problem"]
    assert by_name["kobo"]["from"] == "built in"
    # without the package the source is there, says what is wrong, and harms no other
    status = datasense.process("sync", datasense.org, "--local", "--json", DATASENSE_ALLOW_PRIVATE_ADDRESSES="true")
    assert status.code == 1
    assert "there is no connector 'lighthouses'" in status.words + status.out
