"""What is this process doing, and how is it asked?

`start` opens a small command server in the process.  One line in, an answer
out; it answers when the application's threads are all busy.

    with zkfleet.monitor.start():        # a Unix socket of this user's
        ...

    echo process | nc -U /run/user/1000/zkfleet/monitor-4242.sock

A command is a function whose docstring is its help and whose signature is what
it takes.  It returns a value, and text, JSON and metrics are made of that:

    QUEUE = [Column("queue", "Which one.", kind=Kind.LABEL),
             Column("waiting", "Jobs that nobody has begun.", kind=Kind.GAUGE)]

    @command("queues", columns=QUEUE, blocks=False)
    def queues(name: str | None = None) -> Answer:
        '''List the queues, or one of them.'''
        return table(QUEUE, [{"queue": q.name, "waiting": len(q)} for q in ...])

- `fields`, `table` and `lines` make answers: about one thing, about many of a
  kind, text alone.  `text=` gives the text to the letter; `ok=False` says that
  something is not as it should be.  A function may also return a text, or yield
  it in parts.
- Arguments are `str`, `int`, `float`, `Literal[...]`, any of them `| None`, or
  `Annotated[int, Between(1, 100)]`; `*words: str` takes the rest.  What is wrong
  is told with the usage; a command that finds more wrong raises `BadInput`.
- `blocks` is the default: a thread of its own and a deadline.  With `blocks=False`
  it runs on the monitor's loop, and has to return in microseconds.
- Gauges and counters are metrics, told apart by their labels; `metrics=False` for what
  costs too much to be asked every few seconds.
- `action=True` is for what changes something: off unless `start(actions=True)`.
- `claims_input=True`: its answer may have `mode=Mode.MORE`, and then all further
  lines are arguments of this command.
- `READINESS.add(name, check)` adds to what `ready` and `startup` ask.
- `databases[""] = db` tells the commands about ZODB of a database; see `databases`.
- A module of this room that adds commands is named in `loading.OURS`; other
  distributions name theirs in an entry point of the group `zkfleet.monitor`.
- To ask without a connection, as HTTP and metrics do: `asking.find`, `allow`,
  `Command.read_named` make a `Call`, `Running.now` and `Running.begin` run it;
  the `Reply` has the `Answer`, and says what came of it.

The rooms within:

    answers, wording         what commands say; how it is written (pure)
    commands, asking         which there are; which one is meant by some words (pure)
    conversation             what is said on one connection (pure)
    places, limits           where it may listen; how much clients may ask for (pure)
    running                  threads and deadlines for commands
    talking                  connections, whichever loop they are on
    listening                sockets; who may come in
    aio, plain, encrypted, threads, twisted    the doors
    site, http, web          requests over HTTP: what they ask; on a connection (pure); in a web application
    families, metrics        what numbers are called (pure); how all are asked for
    loading, plugins         where commands come from; those of zc.monitor
    opening, starting        what a door is; what a user has
    settings                 what a configuration file says of a monitor
    tunnel                   TLS where a loop has none of ours
    forking, tokens          what goes on in a forked child; where a secret is kept
    client, found            asking a monitor from another process; where there are some
    databases, users         which databases there are; what they have loaded and stored; who uses a connection
    hearing, history         who tells of their transactions; what is kept of that
    basics, health, process, stacks, memory, profiling, loops    commands about the process
    earlier, zodb, transactions, zeoclient, zeoserver    those of zc.z3monitor, and about ZODB and ZEO
    zope                     what starts one in a Zope process; by name alone
    registries, called       commands about the fleet and about calls
"""

from zkfleet.monitor.answers import Answer, Column, Kind, Mode, fields, lines, table
from zkfleet.monitor.commands import COMMANDS, Between, Command, Commands, command
from zkfleet.monitor.databases import databases
from zkfleet.monitor.encrypted import Certificates
from zkfleet.monitor.health import READINESS
from zkfleet.monitor.limits import Limits
from zkfleet.monitor.starting import Monitor, start

__all__ = [
    "COMMANDS",
    "READINESS",
    "Answer",
    "Between",
    "Certificates",
    "Column",
    "Command",
    "Commands",
    "Kind",
    "Limits",
    "Mode",
    "Monitor",
    "command",
    "databases",
    "fields",
    "lines",
    "start",
    "table",
]
