"""zkfleet runs ZODB and HTTP services as one fleet.

The front door: `zkfleet.connect()` opens a session with ZooKeeper and returns
a `Registry`.  What needs a library is loaded when it is first asked for, so
that importing this costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zkfleet.errors import ZkfleetError as ZkfleetError
    from zkfleet.registry import TLS as TLS
    from zkfleet.registry import Registration as Registration
    from zkfleet.registry import Registry as Registry
    from zkfleet.registry import Status as Status
    from zkfleet.registry import connect as connect

__version__ = "0.1.0"
__all__ = ["TLS", "Registration", "Registry", "Status", "ZkfleetError", "connect"]

_HOMES = dict.fromkeys(("TLS", "Registration", "Registry", "Status", "connect"), "zkfleet.registry")
_HOMES["ZkfleetError"] = "zkfleet.errors"


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'zkfleet' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
