"""What do the repairs expect of ZEO, and what becomes of them if it is not so?

Nothing is done here.  Each repair names the insides that it stands on.  A newer
ZEO may lack one: then it gets plain ZEO's behaviour in the repair's place, and a
warning that says so (`is_on`); or, where that could harm or is not to be had, an
error (`require`).

What is looked for is names: of methods and their arguments, and of attributes.
Those of instances are found in the code of the method that sets them.  That a
method still does what it did is for the tests to say.
"""

import dis
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import version
from typing import Any

from zkfleet.errors import MissingDependency
from zkfleet.spelling import get_logger

# The versions that the lists of needs were read in.
KNOWN = "6.0 to 6.2"

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Repair:
    """Something that ZEO does not do right, and that we do.

    Attributes:
        name: what is repaired.
        without: what happens while the repair is off.
        needs: `module:Class.name`, or with arguments `module:Class.name(one, two)`
            which must be among those of the function, or with attributes
            `module:Class.name sets one, two`.
    """

    name: str
    without: str
    needs: tuple[str, ...]


# Imported by name: without them there is no module to be off.
IMPORTED = Repair(
    "zkfleet.zeo",
    without="it cannot be used at all",
    needs=(
        "ZEO.ClientStorage:ClientStorage",
        "ZEO.Exceptions:ClientDisconnected",
        "ZEO.Exceptions:ServerException",
        "ZEO.StorageServer:StorageServer",
        "ZEO.StorageServer:ZEOStorage",
        "ZEO.StorageServer:run_in_thread",
        "ZEO.asyncio.client:ClientIO",
        "ZEO.asyncio.client:ClientThread",
        "ZEO.asyncio.client:Fallback",
        "ZEO.asyncio.client:Protocol",
        "ZEO.asyncio.server:Acceptor",
        "ZEO.asyncio.server:Delay",
        "ZEO.asyncio.server:ServerProtocol",
        "ZEO.runzeo:ZEOOptions",
        "ZEO.runzeo:ZEOServer",
        "ZEO.zconfig:client_ssl",
    ),
)


def lacking(repair: Repair) -> tuple[str, ...]:
    """Return those needs of a repair that this ZEO does not have."""
    return tuple(need for need in repair.needs if not _has(need))


def _has(need: str) -> bool:
    place, _, rest = need.partition(":")
    rest, _, attributes = rest.partition(" sets ")
    name, _, arguments = rest.rstrip(")").partition("(")
    try:
        found: Any = import_module(place)
        for part in name.split("."):
            found = getattr(found, part)
        there = set(inspect.signature(found).parameters) if arguments else set()
        there |= _set_by(found) if attributes else set()
    except (ImportError, AttributeError, TypeError, ValueError):
        return False
    return there.issuperset(_split(arguments) + _split(attributes))


def _set_by(method: Callable[..., Any]) -> set[str]:
    """Return the names of the attributes that a method sets, of whatever object."""
    return {one.argval for one in dis.get_instructions(method) if one.opname == "STORE_ATTR"}


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name]


@cache
def is_on(repair: Repair) -> bool:
    """Tell whether a repair can be made; the first time that it cannot is told in the log."""
    lacks = lacking(repair)
    if lacks:
        logger.warning(
            "zeo_repair_off repair=%r zeo=%s lacks=%s: %s",
            repair.name,
            version("ZEO"),
            ",".join(lacks),
            repair.without,
        )
    return not lacks


def require(repair: Repair) -> None:
    """See to it that a repair can be made without which one must not go on.

    Raises:
        MissingDependency: it cannot; says what this ZEO lacks, or why ZEO cannot be imported.
    """
    if lacks := lacking(repair):
        _check_imports(lacks)
        raise MissingDependency(
            f"{repair.name}: {repair.without}, because ZEO {version('ZEO')} lacks {', '.join(lacks)}",
            hint=f"zkfleet knows ZEO {KNOWN}: install one of these",
        )


def _check_imports(needs: Sequence[str]) -> None:
    """See that the modules that needs are in can be imported, if they are there."""
    for place in dict.fromkeys(need.partition(":")[0] for need in needs):
        try:
            import_module(place)
        except ImportError as exc:
            if _hiding(exc) or not (isinstance(exc, ModuleNotFoundError) and is_in(place, exc.name)):
                raise not_imported(place, exc) from exc


def is_in(module: str, name: str | None) -> bool:
    """Tell whether it is a module itself, or a package that it is in, that was not found by its name."""
    return name is not None and f"{module}.".startswith(f"{name}.")


def not_imported(module: str, exc: ImportError) -> MissingDependency:
    """Return the error that a module is there, and cannot be imported for another reason."""
    anew = "install it anew with what it needs: pip install --force-reinstall ZEO"
    return MissingDependency(f"{module} cannot be imported: {exc}", hint=_hiding(exc) or anew)


def _hiding(exc: ImportError) -> str:
    """Return which file has the name of a package, such as a script in the folder of the program; "" if none has."""
    package = (exc.name or "").partition(".")[0]
    file = getattr(sys.modules.get(package), "__file__", None)
    if file is None or hasattr(sys.modules[package], "__path__"):
        return ""
    return f"{file} hides the package {package}: give it another name"


def state_of(repairs: Sequence[Repair]) -> Mapping[str, tuple[str, ...]]:
    """Return what each repair lacks, by name: nothing for those that are on."""
    return {repair.name: lacking(repair) for repair in repairs}
