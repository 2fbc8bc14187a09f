"""YAML in, plain JSON-like data out, with the line of every value and every key that is given twice.

Dates stay text: what a value means is decided by the model that reads it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from datasense_assets.catalog.models import Problem

Path = tuple[str | int, ...]


_FLOAT = "tag:yaml.org,2002:float"
# What JSON writes as 1e-05 is a number here too; YAML 1.1 would read it as text.
_JSON_FLOAT = re.compile(r"^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?[eE][-+]?[0-9]+$")


class _Loader(yaml.SafeLoader):
    """Safe YAML without timestamps, with JSON's numbers and its pairs of half characters."""

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        value = super().construct_scalar(node)
        if isinstance(value, str) and not value.isascii():
            # JSON escapes a character beyond the first 65,536 as two halves; a lone half stays and is refused later.
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
        return value


class _Dumper(yaml.SafeDumper):
    """Safe YAML that writes every value out, never as a reference to an equal one."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - yaml calls it so
        return True


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver(_FLOAT, _JSON_FLOAT, list("-0123456789"))


def write_yaml(data: Any) -> str:
    """The data as YAML that `read_yaml` gives back as it was, names in their order, every script as it is."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


@dataclass
class YamlText:
    """A parsed document: `data`, the 1-based line of each path, and what is wrong with the text itself."""

    data: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def line(self, path: Path) -> int | None:
        """The line of the value at `path`, or of the nearest thing around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path)


def shown(path: Path) -> str:
    """A path as people write it: `sources[1].slug`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def read_yaml(text: str) -> YamlText:
    """Parse one document (YAML, and so JSON too); what cannot be parsed is a problem, not an exception."""
    found = YamlText()
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is not None:
            _walk(node, (), found, set())
            found.data = loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        said = getattr(error, "problem", None) or "the text cannot be read"
        found.problems.append(
            Problem(
                path="(file)",
                message=f"this is not YAML: {said}.",
                fix="Check indentation, quotes and colons there.",
                line=None if mark is None else mark.line + 1,
            )
        )
    finally:
        loader.dispose()
    return found


def _walk(node: yaml.Node, path: Path, found: YamlText, above: set[int]) -> None:
    found.lines.setdefault(path, node.start_mark.line + 1)
    if id(node) in above:
        raise yaml.constructor.ConstructorError(None, None, "a value contains itself", node.start_mark)
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _walk(item, (*path, index), found, above | {id(node)})
    elif isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            line = key.start_mark.line + 1
            if name in seen:
                message, fix = f"{name!r} is given twice.", "Keep one of the two."
                found.problems.append(Problem(path=shown((*path, name)), message=message, fix=fix, line=line))
            seen.add(name)
            found.lines[(*path, name)] = line
            _walk(value, (*path, name), found, above | {id(node)})
