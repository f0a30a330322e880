"""How long does it take to import zkfleet, and to ask the command for help?"""

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial

from benchmarks.measure import Bench, Row, bounded, nothing, rounds, shown

ROUNDS = 15


def rows(_bench: Bench) -> Iterator[Row]:
    """Yield the lines of this table."""
    programs = {
        "python -c pass": ["-c", "pass"],
        "import zkfleet": ["-c", "import zkfleet"],
        "from zkfleet import connect": ["-c", "from zkfleet import connect"],
        "import kazoo.client": ["-c", "import kazoo.client"],
        "zkfleet --help": ["-c", "from zkfleet.cli import main; main()", "--help"],
    }
    with tempfile.TemporaryDirectory() as compiled:
        # As installed: compiled once, on the first, warm round.
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": compiled}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        sides = [(nothing, partial(_run, arguments, environment)) for arguments in programs.values()]
        found = dict(zip(programs, rounds(ROUNDS, *sides), strict=True))
    bare = found["python -c pass"]

    def above(name: str) -> float:
        return statistics.median(mine - other for mine, other in zip(found[name], bare, strict=True))

    yield bounded("`import zkfleet`, above `python -c pass`", above("import zkfleet") * 1000, 150, "ms")
    mine, its = above("from zkfleet import connect"), above("import kazoo.client")
    what = "`from zkfleet import connect`, above `python -c pass`"
    yield Row(what, shown(mine), "`import kazoo.client`", shown(its), f"{mine / its:.2f}")
    yield bounded("`zkfleet --help`", statistics.median(found["zkfleet --help"]) * 1000, 300, "ms")


def _run(arguments: list[str], environment: dict[str, str]) -> None:
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, env=environment)
