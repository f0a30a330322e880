"""How does a person read a plan, and how is one kept?

For people: a line a step, marked `+` create, `~` change, `-` delete, `!` hold,
with the properties that differ below.  For programs: JSON, data in base64.
"""

import base64
import json
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from zkfleet import paths
from zkfleet.errors import BadAcl, BadInput
from zkfleet.tree.acl import Acl
from zkfleet.tree.model import decode, same
from zkfleet.tree.plan import KINDS, Create, Delete, Hold, Plan, SetAcl, Step, Update
from zkfleet.tree.printer import lines_of

FORMAT = "zkfleet plan 1"
_NAMES = {kind: name for name, kind in KINDS.items()}


def render_plan(plan: Plan) -> str:
    """Return the plan as people read a change."""
    lines = [line for step in plan.steps for line in _lines(step)]
    lines += [f"  {path} is left over: neither in the text nor trimmed" for path in plan.left_over]
    counts = ", ".join(f"{number} to {name}" for name, number in plan.counts().items() if number)
    return "\n".join([*lines, counts or "nothing to change"])


def _lines(step: Step) -> Iterator[str]:
    match step:
        case Create(path, data):
            yield f"+ {path}"
            yield from (f"    + {line}" for line in _properties(data))
        case Update(path, before, after):
            yield f"~ {path}"
            yield from _differences(before, after)
        case SetAcl(path, before, after):
            yield f"~ {path} (access)"
            yield f"    - {','.join(map(str, before))}"
            yield f"    + {','.join(map(str, after))}"
        case Delete(path, data):
            yield f"- {path}"
            yield from (f"    - {line}" for line in _properties(data))
        case Hold(path, reason):
            yield f"! {path} is kept: {reason}"


def _properties(data: bytes) -> list[str]:
    return list(lines_of(decode(data)))


def _differences(before: bytes, after: bytes) -> Iterator[str]:
    old, new = decode(before), decode(after)
    for name in sorted(old.keys() | new.keys()):
        if name in old and name in new and same(old[name], new[name]):
            continue
        if name in old:
            yield from (f"    - {line}" for line in lines_of({name: old[name]}))
        if name in new:
            yield from (f"    + {line}" for line in lines_of({name: new[name]}))


def to_json(plan: Plan) -> str:
    """Return the plan as JSON."""
    steps = [{"step": _NAMES[type(step)], **_fields(step)} for step in plan.steps]
    document = {"format": FORMAT, "path": plan.path, "steps": steps, "left_over": list(plan.left_over)}
    return json.dumps(document, indent=1) + "\n"


def _fields(step: Step) -> dict[str, Any]:
    return {field.name: _plain(getattr(step, field.name)) for field in fields(step)}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, tuple):
        return [[entry.permissions, entry.scheme, entry.id] for entry in value]
    return value


def from_json(text: str) -> Plan:
    """Return the plan in a JSON text.

    Raises:
        BadInput: it is no plan.
    """
    try:
        document = json.loads(text)
        if document["format"] != FORMAT:
            raise BadInput(f"a plan of another format: {document['format']!r}", hint=f"this version reads {FORMAT!r}")
        return Plan(str(document["path"]), tuple(map(_step, document["steps"])), tuple(document["left_over"]))
    except (ValueError, KeyError, TypeError, AttributeError, BadAcl) as exc:
        if isinstance(exc, BadInput) and not isinstance(exc, BadAcl):
            raise
        raise BadInput(
            f"no saved plan: {type(exc).__name__}: {exc}", hint="`zkfleet tree plan --save FILE` writes one"
        ) from exc


def _step(entry: dict[str, Any]) -> Step:
    paths.check(entry["path"])
    kind = KINDS[entry["step"]]
    return kind(**{field.name: _value(str(field.type), entry[field.name]) for field in fields(kind)})


def _value(kind: str, value: Any) -> Any:
    if value is None and "None" in kind:
        return None
    wanted = int if "int" in kind else str
    if "bytes" in kind:
        return base64.b64decode(value, validate=True)
    if "Acl" in kind:
        return tuple(Acl(*entry) for entry in value)
    if not isinstance(value, wanted) or isinstance(value, bool):
        raise TypeError(f"{value!r} is not {wanted.__name__}")
    return value
