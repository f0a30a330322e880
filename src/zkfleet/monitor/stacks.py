"""What is every thread doing?

Others add what they know of a thread, such as the databases that it has open:
`add_note` takes a function from a thread's number to a list of lines.
"""

import sys
import threading
import traceback
from collections.abc import Callable
from types import FrameType

from zkfleet.monitor.answers import Answer, Column, Value, lines_of, table
from zkfleet.monitor.commands import command
from zkfleet.monitor.running import NAME

THREADS = [
    Column("name", "The thread's name."),
    Column("ident", "Its number in Python."),
    Column("native", "Its number in the system, as `top -H` shows it."),
    Column("daemon", "Whether the process ends without waiting for it."),
    Column("notes", "What else is known of it."),
    Column("stack", "Where it is, the innermost call last; a line for each."),
]
MOST_FRAMES = 100
Note = Callable[[int], list[str]]
"""Lines about the thread of this number; it must not block."""
_notes: list[Note] = []


def add_note(note: Note) -> None:
    """Have a function asked about every thread."""
    _notes.append(note)


@command("threads", columns=THREADS)
def threads(name: str | None = None) -> Answer:
    """Show the stacks of all threads, or of those with a word in their name; the monitor's own come last."""
    frames, known = sys._current_frames(), {one.ident: one for one in threading.enumerate()}
    chosen = [(ident, frame) for ident, frame in frames.items() if name is None or name in _name(known.get(ident))]
    chosen.sort(key=lambda one: _name(known.get(one[0])).startswith(NAME))
    rows = [_row(ident, known.get(ident), frame) for ident, frame in chosen]
    return table(THREADS, rows, text="\n".join(map(_text, rows)) or "no such thread\n")


def stack(frame: FrameType) -> list[str]:
    """Return where a frame is, the innermost call last, as `file:line function: source`."""
    found = traceback.extract_stack(frame, MOST_FRAMES)
    return [f"{one.filename}:{one.lineno} {one.name}: {one.line}" for one in found]


def _name(thread: threading.Thread | None) -> str:
    return thread.name if thread is not None else "unknown to Python"


def _row(ident: int, thread: threading.Thread | None, frame: FrameType) -> dict[str, Value]:
    return {
        "name": _name(thread),
        "ident": ident,
        "native": thread.native_id if thread is not None else None,
        "daemon": thread.daemon if thread is not None else None,
        "notes": [line for note in _notes for line in note(ident)],
        "stack": stack(frame),
    }


def _text(row: dict[str, Value]) -> str:
    notes, calls = row["notes"], row["stack"]
    assert isinstance(notes, list)
    assert isinstance(calls, list)
    head = f"{row['name']} ({row['native']}{', daemon' if row['daemon'] else ''})"
    return lines_of([head, *(f"  {line}" for line in notes), *(f"    {line}" for line in calls)])
