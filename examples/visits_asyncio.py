"""A web server that counts visits in a ZEO database, on asyncio alone.

    python examples/visits_asyncio.py HOSTS PATH [--port PORT]

HOSTS is ZooKeeper's connection string, PATH the node below which the database's servers register.

    curl -X POST -H "Visit: 7f3a" http://127.0.0.1:8080/visits
    curl http://127.0.0.1:8080/visits

The answer to either is the number of visits.  That to a POST comes after its visit was committed, and a visit
that is there already is not counted again: a client that got no answer may ask again.  How often each was
committed is kept with it.
"""

import argparse
import asyncio
import io
import signal
from contextlib import closing
from http import HTTPStatus
from http.client import parse_headers

from BTrees.Length import Length
from BTrees.OIBTree import OIBTree

from zkfleet import calls, errors, zeo
from zkfleet.calls.asyncio import Partial

# Conflicts are nobody's fault, and an outage is over when it is over; but browsers do not wait for ever.
PATIENT = calls.Policy(max_transaction_errors=None, deadline=60)


# These three run as transactions, in threads, with a root of their own.


def prepare(root):
    if "visits" not in root:
        root["visits"], root["count"] = OIBTree(), Length()


def add(root, visit):
    visits = root["visits"]
    if visit not in visits:
        root["count"].change(1)
    visits[visit] = visits.get(visit, 0) + 1
    return root["count"]()


def count(root):
    return root["count"]()


class Site:
    """Answers requests; it keeps the place of the root, and no object."""

    def __init__(self, root):
        self.add, self.count = (Partial(function, root, policy=PATIENT) for function in (add, count))

    async def serve(self, reader, writer):
        with closing(writer):
            try:
                status, text = await self.answer(await reader.readuntil(b"\r\n\r\n"))
            except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
                return
            head = f"HTTP/1.1 {status} {status.phrase}\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n"
            writer.write(f"{head}{text}".encode())

    async def answer(self, request):
        line, _, rest = request.partition(b"\r\n")
        try:
            match line.split(b" "), parse_headers(io.BytesIO(rest))["Visit"]:
                case [b"GET", b"/visits", _], _:
                    return HTTPStatus.OK, str(await self.count())
                case [b"POST", b"/visits", _], str(visit):
                    return HTTPStatus.OK, str(await self.add(visit))
        except (errors.Unavailable, errors.CommitUnknown):
            return HTTPStatus.SERVICE_UNAVAILABLE, "ask again"
        return HTTPStatus.BAD_REQUEST, "GET /visits, or POST /visits with a header `Visit: ID`"


async def main(root, port):
    await Partial(prepare, root, policy=PATIENT)()
    server = await asyncio.start_server(Site(root).serve, "127.0.0.1", port)
    print(f"listening on http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", flush=True)
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with server:
        await ended.wait()


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description="Count visits in a ZEO database.")
    arguments.add_argument("hosts", metavar="HOSTS", help="ZooKeeper's connection string")
    arguments.add_argument("path", metavar="PATH", help="the node of the database")
    arguments.add_argument("--port", type=int, default=8080, help="where to listen; 0 for any")
    given = arguments.parse_args()
    with closing(zeo.DB(given.hosts, given.path)) as database:
        with database.transaction() as connection:
            root = calls.ref(connection.root())
        asyncio.run(main(root, given.port))
