"""The pages that operators open at night: what they name is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from datasense_assets.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "docs" / name for name in ("runbooks.md", "growth.md", "monitoring.md", "operations.md", "deploying.md")
]


def anchors(page: Path) -> set[str]:
    """Of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(page: Path) -> list[list[str]]:
    """Words of every `datasense` command of a page, in blocks and in sentences."""
    text = page.read_text(encoding="utf-8")
    lines = [line.strip() for line in text.splitlines()] + re.findall(r"`(datasense [^`]+)`", text)
    found = []
    for line in lines:
        if line.startswith("datasense ") and "..." not in line:
            before_shell = re.split(r" #| > | \\| && ", line)[0]
            found.append(shlex.split(before_shell.replace("`", "")))
    return found


def unknown_to(command: Any, words: list[str]) -> str | None:
    """The first word that the command line would not know; None where it knows all."""
    for place, word in enumerate(words):
        subcommands = getattr(command, "commands", None)
        if subcommands is not None and not word.startswith("-"):
            if word not in subcommands:
                return word
            return unknown_to(subcommands[word], words[place + 1 :])
        if word == "--":
            return None
        if word.startswith("-"):
            options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
            if word.partition("=")[0] not in options | {"--help"}:
                return word
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_the_pages_is_one_with_these_options(page: Path) -> None:
    found = commands(page)
    assert found
    command = typer.main.get_command(app)
    wrong = {" ".join(words): word for words in found if (word := unknown_to(command, words[1:])) is not None}
    assert wrong == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_section_that_is_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith("http"):
            continue
        name, _, anchor = target.partition("#")
        there = page.parent / name if name else page
        assert there.exists(), target
        if anchor:
            assert anchor in anchors(there), target


def test_each_alert_names_a_section_of_the_runbooks() -> None:
    rules = yaml.safe_load((ROOT / "deploy" / "monitoring" / "alerts.yml").read_text(encoding="utf-8"))
    there = anchors(ROOT / "docs" / "runbooks.md")
    for group in rules["groups"]:
        for rule in group["rules"]:
            page, _, anchor = rule["annotations"]["runbook"].partition("#")
            assert page == "docs/runbooks.md"
            assert anchor in there, rule["alert"]
            assert rule["labels"]["severity"] in ("page", "ticket")
