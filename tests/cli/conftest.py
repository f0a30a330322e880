import logging

import pytest

from zkfleet.cli.options import dev_server


@pytest.fixture(autouse=True)
def logging_as_before():
    """The command sets up logging for its process, which here is that of all tests."""
    loggers = [logging.getLogger(name) for name in (None, "kazoo", "zkfleet")]
    before = [(logger, logger.level, list(logger.handlers)) for logger in loggers]
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers


@pytest.fixture(autouse=True)
def a_dev_server_for_each_test():
    """`-z dev:` is one server as long as the process lives."""
    yield
    dev_server.cache_clear()
