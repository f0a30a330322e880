"""A web server that counts visits in a ZEO database, on Twisted.

    python examples/visits_twisted.py HOSTS PATH [--port PORT]

HOSTS is ZooKeeper's connection string, PATH the node below which the database's servers register.

    curl -X POST -H "Visit: 7f3a" http://127.0.0.1:8080/visits
    curl http://127.0.0.1:8080/visits

The answer to either is the number of visits.  That to a POST comes after its visit was committed, and a visit
that is there already is not counted again: a client that got no answer may ask again.  How often each was
committed is kept with it.
"""

import argparse
from contextlib import closing

from BTrees.Length import Length
from BTrees.OIBTree import OIBTree
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import react
from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from zkfleet import calls, errors, zeo
from zkfleet.calls.twisted import Partial

logger = Logger()
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


class Visits(Resource):
    """Answers requests; it keeps the place of the root, and no object."""

    def __init__(self, root):
        super().__init__()
        self.add, self.count = (Partial(function, root, policy=PATIENT) for function in (add, count))

    def render_GET(self, request):
        return answer(request, self.count())

    def render_POST(self, request):
        visit = request.getHeader("Visit")
        if visit is None:
            request.setResponseCode(400)
            return b"POST /visits needs a header `Visit: ID`"
        return answer(request, self.add(visit))


def answer(request, number):
    """Answer when the Deferred of a number fires; a client that goes away takes the call with it."""
    gone = request.notifyFinish().addErrback(lambda _: number.cancel())

    def finish(text):
        if not gone.called:
            request.write(text.encode())
            request.finish()

    number.addCallback(str).addErrback(excuse, request).addCallback(finish)
    return NOT_DONE_YET


def excuse(failure, request):
    if failure.check(errors.Unavailable, errors.CommitUnknown, CancelledError):
        request.setResponseCode(503)
        return "ask again"
    logger.failure("visit_failed", failure)
    request.setResponseCode(500)
    return "that went wrong"


async def main(reactor, root, port):
    await Partial(prepare, root, policy=PATIENT)()
    site = Resource()
    site.putChild(b"visits", Visits(root))
    where = reactor.listenTCP(port, Site(site), interface="127.0.0.1").getHost()
    print(f"listening on http://127.0.0.1:{where.port}/", flush=True)
    await Deferred()  # until a signal comes


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description="Count visits in a ZEO database.")
    arguments.add_argument("hosts", metavar="HOSTS", help="ZooKeeper's connection string")
    arguments.add_argument("path", metavar="PATH", help="the node of the database")
    arguments.add_argument("--port", type=int, default=8080, help="where to listen; 0 for any")
    given = arguments.parse_args()
    with closing(zeo.DB(given.hosts, given.path)) as database:
        with database.transaction() as connection:
            root = calls.ref(connection.root())
        react(main, (root, given.port))
