"""`datasense workspace`: the workspace file of a platform whose organisations are parted over code locations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from datasense_assets.cli.address import open_catalog
from datasense_assets.cli.output import JsonFlag, print_json, print_text, say

_FIRST_PORT = 3030


def workspace(
    shards: Annotated[int, typer.Option(min=1, max=1000, help="Into how many code locations.")],
    host: Annotated[
        str, typer.Option(help="Where their code servers are; {i} stands for the number of each.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Of the first; the next ones follow, unless the host has an {i}.")
    ] = _FIRST_PORT,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the file here, not on stdout.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write a workspace.yaml of several code locations, and say how each code server is started.

    Each serves the organisations that DATASENSE_SHARD=i/n gives it; to add one, restart all with the new n.
    """
    from datasense_assets.catalog.listing import list_organizations
    from datasense_assets.catalog.sharding import shard_of

    with open_catalog() as catalog, catalog.connect() as connection:
        rows = list_organizations(connection)
    servers = [_server(index, shards, host, port) for index in range(shards)]
    for row in rows:
        mine = servers[shard_of(row.slug, shards)]
        mine["organizations"] += 1
        mine["sources"] += row.sources
    document = {"load_from": [{"grpc_server": each["grpc_server"]} for each in servers]}
    text = yaml.safe_dump(document, sort_keys=False)
    if output is not None:
        output.write_text(text, encoding="utf-8")
    if as_json:
        print_json({"workspace": document, "servers": servers})
        return
    if output is None:
        print_text(text)
    for each in servers:
        holds = f"{each['organizations']} organisations, {each['sources']} sources"
        say(f"{each['environment']} {each['command']}  # {holds}")


def _server(index: int, shards: int, host: str, port: int) -> dict[str, Any]:
    own_port = port if "{i}" in host else port + index
    address = {
        "host": host.replace("{i}", str(index)),
        "port": own_port,
        "location_name": "datasense" if shards == 1 else f"datasense-{index}",
    }
    return {
        "grpc_server": address,
        "environment": "" if shards == 1 else f"DATASENSE_SHARD={index}/{shards}",
        "command": f"dagster code-server start -m datasense_assets.definitions -h 0.0.0.0 -p {own_port}",
        "organizations": 0,
        "sources": 0,
    }
