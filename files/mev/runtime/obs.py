"""Logs: one JSON object a line, to standard error (the journal) and to the agent's file in the logs directory.

Modules log with `structlog.get_logger(__name__)`; addresses and hashes (bytes) are written as 0x…, secrets never.
"""

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import msgspec
import structlog

from mev.runtime.secret import Secret

FILE_BYTES = 64 * 2**20
FILES_KEPT = 5
HIDDEN = "<secret>"
_SECRET_NAMES = re.compile(r"(^|_)(secret|password|passphrase|private_key|signing_key|credential|jwt)s?($|_)")
_URL_USER = re.compile(r"(?<=://)[^/\s@]*@")


def configure(level: str = "info", file: Path | None = None) -> None:
    """Send this process's logs, from a severity on, to standard error, and to a file where there is one.

    An agent's file is <logging.directory>/<agent>.log. It is turned at 64 MiB; five old ones are kept, beside it: where it
    is a link, in the directory that it leads to. Raises OSError where it cannot be written.
    """
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            _readable,
            structlog.processors.JSONRenderer(serializer=_json),
        ],
    )
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if file is not None:
        handlers.append(
            RotatingFileHandler(file.resolve(), maxBytes=FILE_BYTES, backupCount=FILES_KEPT, encoding="utf-8")
        )
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    for handler in handlers:
        handler.setFormatter(formatter)
        root.addHandler(handler)
    root.setLevel(level.upper())
    # Each frame at debug level: what goes over the wire is no log.
    logging.getLogger("websockets").setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def _readable(_logger: object, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    return {key: HIDDEN if _SECRET_NAMES.search(key.lower()) else _plain(value) for key, value in event.items()}


def _plain(value: object) -> object:
    match value:
        case Secret():
            return HIDDEN
        case bytes():
            return "0x" + value.hex()
        case str():
            return _URL_USER.sub("", value)
        case Mapping():
            return {
                str(key): HIDDEN if _SECRET_NAMES.search(str(key).lower()) else _plain(item)
                for key, item in value.items()
            }
        case list() | tuple() | set() | frozenset():
            return [_plain(item) for item in value]
        case msgspec.Struct():
            return _plain(msgspec.structs.asdict(value))
        case bool() | int() | float() | None:
            return value
        case _:
            return _URL_USER.sub("", str(value))


def _json(event: object, **_options: object) -> str:
    return msgspec.json.encode(event).decode()
