"""Log lines as people and programs read them: organisation, source and run on each, no secret in any, JSON on request.

Every process of the platform opens a Dagster instance, whose storage calls `set_up_logging`: whatever Dagster, its
console of runs and our own rooms log from then on comes out in one form. `DATASENSE_LOG_FORMAT` says which; where it is
not set, JSON in production, and else Dagster's own colours are left as they are.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import structlog

from datasense_assets.running.whose import of_run, whose
from datasense_assets.settings import Settings, get_settings

if TYPE_CHECKING:
    import dagster as dg

_about: ContextVar[Mapping[str, str] | None] = ContextVar("datasense_log_about", default=None)
_of_process: dict[str, str] = {}
_RUN_ID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\b")
_HIDDEN = "***"
_SECRETS = (
    # a URL's user and password, its query's values, what a header or a setting of such a name holds, Fernet's tokens
    (re.compile(r"(?<=://)[^/\s@'\"]+@"), f"{_HIDDEN}@"),
    (re.compile(r"([?&][\w.\-]+=)[^&\s'\"]+"), rf"\1{_HIDDEN}"),
    (
        re.compile(
            r"(?i)\b((?:authorization|[\w-]*(?:token|password|passwd|secret|api[_-]?key)))(['\"]?\s*[:=]\s*['\"]?)"
            r"(?:(?:bearer|basic|token)\s+)?[^\s'\",;&}]+"
        ),
        rf"\1\2{_HIDDEN}",
    ),
    (re.compile(r"(?i)\b(bearer|basic|token)\s+[\w.~+/=-]{16,}"), rf"\1 {_HIDDEN}"),
    (re.compile(r"\bgAAAA[\w-]{40,}={0,2}"), _HIDDEN),
)


def set_up_logging(settings: Settings | None = None) -> None:
    """Have every line of this process come out in our form; a second time it changes nothing, and nothing is lost.

    Handlers that are there, and those that are made later for a terminal, get our formatter.
    """
    chosen = (settings or get_settings()).log_lines
    if chosen is None:
        return
    formatter = line_formatter(chosen)
    if logging.getLoggerClass() is not _OurLogger:
        logging.setLoggerClass(_OurLogger)
    _OurLogger.formatter = formatter
    known = [logging.getLogger(), *map(logging.getLogger, list(logging.Logger.manager.loggerDict))]
    for logger in known:
        # Dagster's programs set up their handlers once more, after they have opened their instance
        if type(logger) is logging.Logger:
            logger.__class__ = _OurLogger
        for handler in logger.handlers:
            _use(handler, formatter)
    logging.captureWarnings(True)
    for name in ("datasense", "py.warnings"):
        logger = logging.getLogger(name)
        if not logger.hasHandlers():
            logger.addHandler(_OwnLines())
            logger.setLevel(logging.INFO)
        for handler in logger.handlers:
            _use(handler, formatter)


class _OurLogger(logging.Logger):
    """Dagster makes the console of each run anew, as an object of this class, and gives it a formatter of its own."""

    formatter: logging.Formatter | None = None

    def addHandler(self, hdlr: logging.Handler) -> None:  # noqa: N802 - logging's name
        """Add it, in our form where it writes lines."""
        super().addHandler(hdlr)
        if self.formatter is not None:
            _use(hdlr, self.formatter)


class _OwnLines(logging.StreamHandler[Any]):
    """Lines of `datasense.*`, but for those that Dagster takes for a run's: they come out by the run's console."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write to what is stderr now; a run may have it captured."""
        import sys

        handlers = logging.getLogger("datasense").handlers if record.name != "py.warnings" else []
        taken = any(type(each).__name__ == "DagsterLogHandler" for each in handlers)
        if not taken and not hasattr(record, "dagster_meta"):
            self.stream = sys.stderr
            super().emit(record)


def _use(handler: logging.Handler, formatter: logging.Formatter) -> None:
    if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
        handler.setFormatter(formatter)


@contextmanager
def about_run(run: dg.DagsterRun) -> Iterator[None]:
    """Lines of this context are about the run: for a process that executes one run after another."""
    token = _about.set(of_run(run.run_id, run.tags))
    try:
        yield
    finally:
        _about.reset(token)


def process_is_about(run: dg.DagsterRun) -> None:
    """Lines of this process are about the run: for one that was started for it."""
    _of_process.clear()
    _of_process.update(of_run(run.run_id, run.tags))


@lru_cache(maxsize=4)
def line_formatter(form: str) -> logging.Formatter:
    """The formatter of `json` or `text`."""
    renderer: Any = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=False, sort_keys=False)
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_logger_name,
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            _say_what_it_is_about,
            structlog.processors.format_exc_info,
        ],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _hide_secrets, renderer],
    )


def _say_what_it_is_about(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Organisation, source and run: as Dagster's record says, else as this context or process is about."""
    record = line.get("_record")
    said = getattr(record, "dagster_meta", None)
    about: Mapping[str, str] = getattr(record, "about", None) or _about.get() or _of_process
    if isinstance(said, Mapping) and said.get("run_id"):
        about = of_run(str(said["run_id"]), said.get("job_tags") or {})
        line["event"] = said.get("orig_message") or line["event"]
        if said.get("step_key"):
            line["step"] = said["step_key"]
        event = said.get("dagster_event")
        if event is not None:
            line["what"] = event.event_type.name
            problem = getattr(event.event_specific_data, "error", None)
            if problem is not None:
                line["error"] = problem.to_string()
    if not about.get("run") and (named := _RUN_ID.search(str(line.get("event", "")))):
        about = {"run": named[0], **whose(named[0]), **about}
    for name, value in about.items():
        line.setdefault(name, value)
    return line


def _hide_secrets(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in line.items():
        if isinstance(value, str):
            line[name] = without_secrets(value)
    line["message"] = line.pop("event", "")
    return line


def without_secrets(words: str) -> str:
    """The words with everything masked that looks like a secret, or is one of the platform's own."""
    for secret in _own_secrets():
        words = words.replace(secret, _HIDDEN)
    for pattern, mask in _SECRETS:
        words = pattern.sub(mask, words)
    return words


def _own_secrets() -> tuple[str, ...]:
    return _secrets_of(get_settings())


@lru_cache(maxsize=4)
def _secrets_of(settings: Settings) -> tuple[str, ...]:
    """Keys and passwords in the settings of this process, as they are and as they stand in a URL."""
    found: set[str] = set()
    if settings.secret_key is not None:
        found |= {key.strip() for key in settings.secret_key.get_secret_value().split(",")}
    for url in (settings.database_url, settings.storage_url, settings.redis_url):
        if url is not None and (password := urlsplit(url.get_secret_value()).password):
            found |= {password, unquote(password)}
    if settings.operator_contacts is not None:
        found |= set(settings.operator_contacts.get_secret_value().split())
    return tuple(sorted((each for each in found if len(each) >= 4), key=len, reverse=True))
