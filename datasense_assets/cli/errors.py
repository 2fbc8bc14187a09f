"""From an exception to what a person reads and what a script gets: lines for stderr and an exit code.

0 done; 1 the user's input is wrong, and trying again does not help; 2 the world failed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasense_assets.catalog.models import Problem
    from datasense_assets.recipes.errors import RecipeError

DONE, INPUT_WRONG, WORLD_FAILED, INTERRUPTED = 0, 1, 2, 130


class CommandError(Exception):
    """A command cannot go on. `message`: what, where and why; `advice`: what to do; `problems`: each thing found."""

    exit_code = WORLD_FAILED

    def __init__(self, message: str, *, advice: str = "", problems: Iterable[Problem] = ()) -> None:
        """Keep the parts."""
        super().__init__(f"{message} {advice}".strip())
        self.message = message
        self.advice = advice
        self.problems = tuple(problems)


class InputWrong(CommandError):
    """What was typed or written in a file cannot be used."""

    exit_code = INPUT_WRONG


class WorldFailed(CommandError):
    """A server, a database or a run failed; the same command may work later."""


@dataclass(frozen=True)
class Explained:
    """An expected failure in words: one entry of `problems` for each thing to mend, with path, message and fix."""

    exit_code: int
    message: str
    advice: str = ""
    problems: tuple[dict[str, Any], ...] = field(default=())

    def document(self) -> dict[str, Any]:
        """The failure as `--json` prints it."""
        return {
            "error": {"message": self.message, "advice": self.advice or None, "problems": list(self.problems)},
            "exit_code": self.exit_code,
        }


def explain(error: BaseException) -> Explained | None:
    """The failure in words; None for an error that nobody expected.

    Rooms below are looked up among the modules that are already imported: an exception of theirs implies them.
    """
    if isinstance(error, CommandError):
        return Explained(error.exit_code, error.message, error.advice, tuple(map(problem_entry, error.problems)))
    for module, name, explainer in _EXPLAINERS:
        kind = getattr(sys.modules.get(module), name, None)
        if isinstance(kind, type) and isinstance(error, kind):
            return explainer(error)
    return None


def problem_entry(problem: Any) -> dict[str, Any]:
    """A `Problem` or `RecipeError` as plain data."""
    entry = {"path": problem.path, "message": problem.message}
    entry["fix"] = getattr(problem, "fix", None) or _did_you_mean(getattr(problem, "suggestion", None))
    for extra in ("code", "line"):
        if getattr(problem, extra, None) is not None:
            entry[extra] = getattr(problem, extra)
    return entry


def coded_problem(error: RecipeError, path: str, message: str) -> Problem:
    """A mistake in a recipe or check that is a part of a file: `path` counts from the file's top."""
    from datasense_assets.catalog.models import Problem

    fix = _did_you_mean(error.suggestion)
    return Problem(path=path, message=f"{message} [{error.code}]", fix=fix, code=error.code)


def _did_you_mean(suggestion: str | None) -> str | None:
    return f"Did you mean {suggestion}?" if suggestion else None


def _counted(problems: Sequence[Any], what: str) -> str:
    return f"{what} has {'a problem' if len(problems) == 1 else f'{len(problems)} problems'}."


def _manifest_errors(error: Any) -> Explained:
    return Explained(
        INPUT_WRONG,
        _counted(error.problems, "The manifest"),
        "Nothing was written.",
        tuple(map(problem_entry, error.problems)),
    )


def _recipe_errors(error: Any) -> Explained:
    return Explained(INPUT_WRONG, _counted(error.errors, "The recipe"), "", tuple(map(problem_entry, error.errors)))


def _source_error(error: Any) -> Explained:
    return Explained(INPUT_WRONG if error.permanent else WORLD_FAILED, error.message, error.advice)


def _input_wrong(error: Any) -> Explained:
    return Explained(INPUT_WRONG, error.message, error.advice)


def _world_failed(error: Any) -> Explained:
    return Explained(WORLD_FAILED, error.message, error.advice)


def _database_error(error: Any) -> Explained:
    """The driver's own words: psycopg keeps passwords out of the messages of a server."""
    cause = getattr(error, "orig", None) or error
    reason = " ".join(str(cause).split()).rstrip(".") or type(cause).__name__
    return Explained(WORLD_FAILED, f"The database failed: {reason}.", "See that the server runs, then try again.")


def _settings_error(error: Any) -> Explained | None:
    if error.title != "Settings":
        return None
    problems = tuple(
        {
            "path": "_".join(["DATASENSE", *(str(part).upper() for part in item["loc"])]),
            "message": str(item["msg"]).removeprefix("Value error, "),
            "fix": None,
        }
        for item in error.errors(include_url=False, include_input=False)
    )
    return Explained(INPUT_WRONG, _counted(problems, "The environment"), "Correct the variables.", problems)


_EXPLAINERS = (
    ("datasense_assets.catalog.manifest", "ManifestErrors", _manifest_errors),
    ("datasense_assets.recipes.errors", "RecipeErrors", _recipe_errors),
    ("datasense_assets.connectors.errors", "SourceError", _source_error),
    ("datasense_assets.catalog.credentials", "SecretMissing", _input_wrong),
    ("datasense_assets.warehouse.errors", "WarehouseError", _world_failed),
    ("datasense_assets.operations.organizations.holding", "StillBusy", _world_failed),
    ("datasense_assets.catalog.migrate", "CatalogVersionError", _world_failed),
    ("datasense_assets.running.warm.broker", "RedisUnavailable", _world_failed),
    ("datasense_assets.running.warm.worker", "WrongLauncher", _input_wrong),
    ("pydantic_core", "ValidationError", _settings_error),
    ("sqlalchemy.exc", "DBAPIError", _database_error),
    ("psycopg", "Error", _database_error),
)
