import pytest
import transaction
from ZODB import DB

from tests.calls.reactors import RunningReactor
from tests.calls.things import Counter
from tests.zeo.linked import link, linked, other, quiet, server  # noqa: F401
from zkfleet.calls.pool import pool_of


@pytest.fixture
def db():
    """A database in memory, with a counter."""
    db = DB(None)
    put(db, counter=Counter())
    yield db
    db.close()


@pytest.fixture
def served(linked):  # noqa: F811
    """A database on a server, with a counter."""
    put(linked, counter=Counter())
    yield linked
    pool_of(linked).threads.shutdown()  # who asks what became of a commit needs the connection until then


@pytest.fixture
def root(db):
    """The root of a connection that the test itself has."""
    connection = db.open(transaction.TransactionManager())
    yield connection.root()
    connection.transaction_manager.abort()
    connection.close()


@pytest.fixture
def counter(root):
    return root["counter"]


@pytest.fixture(scope="session", params=["epoll", "asyncio"])
def running(request):
    """A reactor that runs; tests that stop one make their own."""
    with RunningReactor(request.param) as running:
        yield running


def put(db, **things):
    """Commit things under the root, by their names."""
    with db.transaction() as connection:
        connection.root().update(things)


def get(db, name="counter", attribute="count"):
    """What is committed."""
    with db.transaction() as connection:
        return getattr(connection.root()[name], attribute)
