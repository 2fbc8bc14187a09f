"""How a command speaks: results on stdout, words for people on stderr, and with `--json` one document on stdout."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

    from datasense_assets.cli.errors import Explained

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]

_NO_LIMIT = 10_000


def words() -> Console:
    """The console for people's words: stderr."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str, *, style: str | None = None) -> None:
    """One line for people, on stderr; nothing in it is read as markup."""
    from rich.text import Text

    words().print(Text(text, style=style or ""))


def warn(text: str) -> None:
    """Something went wrong that does not stop the command."""
    say(f"Warning: {text}", style="yellow")


def show_failure(failure: Explained, *, as_json: bool) -> None:
    """Print a failure for people, and with `--json` as the document too."""
    say(f"Error: {failure.message}", style="bold red")
    for problem in failure.problems:
        fix = f" {problem['fix']}" if problem.get("fix") and not _says(problem["message"], problem["fix"]) else ""
        line = f" (line {problem['line']})" if problem.get("line") else ""
        say(f"  {problem['path'] or 'file'}{line}: {problem['message']}{fix}")
    if failure.advice:
        say(failure.advice)
    if as_json:
        print_json(failure.document())


def _says(message: str, fix: str) -> bool:
    """Whether the message has the fix in it already, whatever its quotes and brackets."""
    marks = str.maketrans("", "", "'\"[]")
    return fix.translate(marks).lower() in message.translate(marks).lower()


def print_json(document: Any) -> None:
    """The one document of `--json`."""
    print_text(json.dumps(document, ensure_ascii=False, indent=2, default=_plain))


def print_text(text: str) -> None:
    """A result as it is, on stdout: no wrapping, no colour."""
    typer.echo(text.rstrip("\n"))


def _plain(value: Any) -> Any:
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, Enum):
        return value.value
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    return str(value)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, title: str | None = None) -> None:
    """A table on stdout; on a pipe it is as wide as its content, so that nothing is cut."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, box=SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for index, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[index], (int, float)) or row[index] is None for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell(value)) for value in row))
    width = None if sys.stdout.isatty() else _NO_LIMIT
    Console(file=sys.stdout, highlight=False, width=width).print(table)


def cell(value: Any) -> str:
    """A value as people read it in a table: numbers with thousands separated, nothing for null."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.6g}" if abs(value) < 1e6 else f"{value:,.0f}"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M")
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return str(value).replace("\n", " ")


def ago(moment: datetime | None, now: datetime | None = None) -> str:
    """How long ago (or until) a moment is, in the largest unit that fits."""
    if moment is None:
        return "never"
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")):
        if abs(seconds) >= size:
            count = f"{int(abs(seconds) // size)} {unit}"
            return f"{count} ago" if seconds > 0 else f"in {count}"
    return "now"


class Progress:
    """One long piece of work: a spinner on a terminal, plain lines elsewhere; both on stderr."""

    def __init__(self, console: Console, status: Status | None) -> None:
        """`status` is None where stderr is no terminal."""
        self._console = console
        self._status = status

    def update(self, text: str) -> None:
        """What is being done now."""
        from rich.markup import escape

        if self._status is None:
            self.done(text)
        else:
            self._status.update(escape(text))

    def done(self, text: str, *, style: str = "") -> None:
        """A line that stays."""
        from rich.text import Text

        self._console.print(Text(text, style=style))


@contextlib.contextmanager
def progress(text: str) -> Iterator[Progress]:
    """Show that work goes on until the block ends.

    On a terminal it writes to a copy of stderr, because Dagster sends the real one to a file while a step runs.
    """
    from rich.console import Console
    from rich.markup import escape

    if not sys.stderr.isatty():
        shown = Progress(words(), None)
        shown.update(text)
        yield shown
        return
    with _copy_of_stderr() as stream:
        console = Console(file=stream, force_terminal=True, highlight=False)
        with console.status(escape(text)) as status:
            yield Progress(console, status)


@contextlib.contextmanager
def _copy_of_stderr() -> Iterator[TextIO]:
    with os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8") as stream:
        yield stream


@contextlib.contextmanager
def quiet(log: Path) -> Iterator[None]:
    """Send what libraries write to stderr to the end of a file, while a run goes on in this process."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as stream, contextlib.redirect_stderr(stream):
        yield
