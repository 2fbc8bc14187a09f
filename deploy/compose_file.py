"""docker-compose.yml as a program reads it: values filled in, services in the order in which they start."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def read_env_file(path: Path) -> dict[str, str]:
    """`NAME=value` a line, as `env_file` has them."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    pairs = [line.partition("=") for line in lines if line and not line.startswith("#")]
    return {name.strip(): value.strip() for name, _, value in pairs}


def interpolated(text: str, values: Mapping[str, str]) -> str:
    """`${NAME}` and `${NAME:?what is missing}` as compose has them."""
    return re.sub(r"(?<!\$)\$\{(\w+)(?::\?[^}]*)?\}", lambda found: values[found[1]], text).replace("$$", "$")


def in_order(services: Mapping[str, Any]) -> list[str]:
    """Each service after those that it depends on."""
    found: list[str] = []

    def visit(name: str) -> None:
        if name not in found:
            for other in services[name].get("depends_on") or ():
                if other in services:
                    visit(other)
            found.append(name)

    for name in services:
        visit(name)
    return found
