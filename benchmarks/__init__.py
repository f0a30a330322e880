"""How fast is it, compared with its peers in the same run?

`python -m benchmarks [TABLE ...]` starts a real ZooKeeper and prints one table
for each of the modules below, or for those that are named; `--write` puts
them into docs/performance.md.  A ratio is measured round by round, ours and
the peer's in turn, and its median is what counts: absolute figures change with
the machine, and with the minute.

    trees            import, apply and export of 5,000 nodes; beside kazoo one by one, and its multis
    discovery        a view of 1,000 providers, and 10,000; beside kazoo, and Curator
    latency          from a provider's create to a callback in another process; the same peers
    registrations    1,000 by one process; the same peers
    links            what 1,000 views cost when the link breaks, and how soon it is back; beside kazoo
    starting         what `import zkfleet` and `zkfleet --help` take; beside `python -c pass`
    zeo              a following client when servers come and go; beside a plain one on one server
    calls            in a thread, from coroutines, a thousand at once; beside the loop that one writes by hand
    devserver        starting, memory, requests, watches; beside the ZooKeeper that it stands in for
    monitor          answers a second, and how late they are in a busy process; beside zc.monitor
    measure, curator, reader, relay, by_hand    what they share: rounds and rows, Java's part, other processes
"""
