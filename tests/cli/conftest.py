import logging

import pytest


@pytest.fixture(autouse=True)
def logging_as_before():
    """The command sets up logging for its process, which here is that of all tests."""
    loggers = [logging.getLogger(name) for name in (None, "kazoo", "zkfleet")]
    before = [(logger, logger.level, list(logger.handlers)) for logger in loggers]
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers
