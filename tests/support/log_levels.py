"""Keeps what a test changes of the log from the tests after it in the same process."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def log_levels_kept() -> Iterator[None]:
    """Restore each logger's level afterwards, as a command that runs in this process sets the levels of its log.

    Without this, later tests neither find lines of INFO nor search them for secrets.
    """
    levels = [(logger, logger.level) for logger in _loggers()]
    try:
        yield
    finally:
        for logger, level in levels:
            if logger.level != level:
                logger.setLevel(level)
        logging.captureWarnings(False)


def _loggers() -> list[logging.Logger]:
    known = logging.getLogger().manager.loggerDict
    # A name of which only longer ones were used, as `onsembl`, has no logger yet: asking for it makes one.
    for name in [name for name, logger in known.items() if isinstance(logger, logging.PlaceHolder)]:
        logging.getLogger(name)
    return [logging.getLogger(), *(logger for logger in known.values() if isinstance(logger, logging.Logger))]
