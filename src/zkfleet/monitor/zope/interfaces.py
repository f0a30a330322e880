"""What is a plugin to zope.component?

The interface of zc.monitor has the same call; its utilities are found, too, if
that package can be imported, which no Python since 3.7 can as it was released.
"""

from typing import Any

from zope.interface import Interface


class IMonitorPlugin(Interface):  # type: ignore[misc]  # it has no types
    """A named utility that is a command of this name."""

    def __call__(connection: Any, *words: str) -> Any:  # noqa: N805
        """Write an answer to the connection; the docstring is the help."""


def all_of_them() -> list[Any]:
    """Return the interfaces whose utilities are commands, each once."""
    try:
        from zc.monitor.interfaces import IMonitorPlugin as Earlier
    except (ImportError, SyntaxError):
        return [IMonitorPlugin]
    # Where the old names are those of zkfleet, both are one.
    return list(dict.fromkeys([Earlier, IMonitorPlugin]))
