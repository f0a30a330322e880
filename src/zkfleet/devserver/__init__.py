"""A ZooKeeper for development and tests: one process, pure Python, no Java.

It speaks the wire protocol of ZooKeeper 3.8, so any client works with it,
unmodified.  Everything is in memory; production is a real ensemble.

    jute, codes, requests       bytes and what they mean
    access, quota, database     who may do what; the znodes
    sessions, watches           who is there, and who wants to hear of what
    writing, reading            what each request does and is answered
    words                       what operators are told: ruok, srvr, ...
    dispatch                    the whole server, without a socket

All of these are pure: bytes and time in, bytes and orders out.  The shell:

    connections, running        sockets; a thread with a loop and a clock
    snapshot, saving, datafile  a file: what it says, when it is written, where
    server                      the `DevServer` that its user has
"""

from zkfleet.devserver.server import DevServer

__all__ = ["DevServer"]
