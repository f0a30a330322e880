"""What did the servers say the last time that they were asked?

The file that a check keeps from one run to the next, so that counters become rates.
"""

import contextlib
import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from zkfleet.errors import BadInput, ZkfleetError
from zkfleet.zeo.asking import Said
from zkfleet.zeo.surveying import Survey


def load(path: Path) -> Survey | None:
    """Return the survey that a file holds, None if there is no file yet, or one that `zeo-nagios` wrote.

    Raises:
        BadInput: it holds something else, which will not be overwritten.
    """
    try:
        held = json.loads(path.read_bytes() or b"{}")
    except FileNotFoundError:
        return None
    except ValueError:
        held = None
    if not isinstance(held, dict):
        raise BadInput(f"{path} holds something else than a status", hint="name a file that may be overwritten")
    with contextlib.suppress(KeyError, TypeError, AttributeError, ValueError):
        answers: Any = {a: {n: Said(**said) for n, said in each.items()} for a, each in held["servers"].items()}
        return Survey(answers, at=float(held["at"]))
    return None


def save(path: Path, survey: Survey) -> None:
    """Write a survey to a file, whole or not at all.

    Raises:
        BadInput: it cannot be written there.
    """
    servers = {
        address: {name: dataclasses.asdict(said) for name, said in answer.items()}
        for address, answer in survey.answers.items()
        if not isinstance(answer, ZkfleetError)
    }
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        new.write_text(json.dumps({"at": survey.at, "servers": servers}))
        new.replace(path)
    except OSError as exc:
        raise BadInput(
            f"the status cannot be kept in {path}: {exc.strerror}",
            hint=f"its folder {path.parent} must exist, and let uid {os.geteuid()} write there",
        ) from exc
