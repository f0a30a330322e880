"""What do the repairs expect of ZEO, and which are off because it is not so?

Nothing is done here.  Each repair names the insides that it stands on; a newer
ZEO that lacks one gets plain ZEO's behaviour in its place, and a warning that
says which.  Read in ZEO 6.0 to 6.2.
"""

import inspect
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import version

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Repair:
    """Something that ZEO does not do right, and that we do.

    Attributes:
        name: what is repaired.
        without: what happens while the repair is off.
        needs: `module:Class.name`, or with arguments `module:Class.name(one, two)`
            which must be among those of the function.
    """

    name: str
    without: str
    needs: tuple[str, ...]


def lacking(repair: Repair) -> tuple[str, ...]:
    """Return those needs of a repair that this ZEO does not have."""
    return tuple(need for need in repair.needs if not _has(need))


def _has(need: str) -> bool:
    place, _, rest = need.partition(":")
    name, _, arguments = rest.rstrip(")").partition("(")
    try:
        found = import_module(place)
        for part in name.split("."):
            found = getattr(found, part)
        there = inspect.signature(found).parameters if arguments else {}  # type: ignore[arg-type]
    except (ImportError, AttributeError, TypeError, ValueError):
        return False
    return all(argument.strip() in there for argument in arguments.split(",") if argument)


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


def state_of(repairs: Sequence[Repair]) -> Mapping[str, tuple[str, ...]]:
    """Return what each repair lacks, by name: nothing for those that are on."""
    return {repair.name: lacking(repair) for repair in repairs}
