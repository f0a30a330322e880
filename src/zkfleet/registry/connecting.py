"""How does one get a registry?"""

from collections.abc import Sequence

from kazoo.client import KazooClient

from zkfleet.errors import BadInput
from zkfleet.registry.hosts import TLS, Credential, choose_hosts, credentials
from zkfleet.registry.registry import AfterFork, Registry
from zkfleet.registry.session import RECONNECT


def connect(
    hosts: str | None = None,
    *,
    session_timeout: float = 10.0,
    timeout: float = 15.0,
    wait: bool = False,
    auth: Sequence[Credential] = (),
    tls: TLS | None = None,
    client: KazooClient | None = None,
    after_fork: AfterFork = "error",
) -> Registry:
    """Open a session with a ZooKeeper ensemble.

    Args:
        hosts: `host:port,host:port/chroot`; else `$ZKFLEET_ZOOKEEPER`, else
            `$ZC_ZK_CONNECTION_STRING`, else `127.0.0.1:2181`.
        session_timeout: seconds without contact after which the ensemble takes
            us for dead; the server may grant another, see `statistics`.
        timeout: seconds that connecting, and any later request, may take.
        wait: keep trying to connect, with a warning now and then.
        auth: `[("digest", "user:password")]` or `[("sasl", "user:password")]`.
        tls: certificates, to encrypt the link.
        client: a kazoo client to use instead; it is not closed.
        after_fork: what a child process meets that uses this registry: an
            `"error"`, or `"reconnect"` for a session of its own.

    Raises:
        ConnectFailed: no ZooKeeper answered.
        BadHosts, BadAuth, BadInput: the arguments are wrong.
        NodeNotFound: the chroot is not there.
        UnsupportedServer: it is older than ZooKeeper 3.6.
    """
    if client is None:
        chosen = choose_hosts(hosts)
        for name, seconds in (("session_timeout", session_timeout), ("timeout", timeout)):
            if not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or not 0 < seconds < float("inf"):
                raise BadInput(f"{name} is a positive number of seconds, not {seconds!r}")
        added, sasl = credentials(auth)
        encryption = tls.options() if tls else {}

        def make_client() -> KazooClient:
            return KazooClient(
                chosen,
                timeout=session_timeout,
                auth_data=added,
                sasl_options=sasl,
                connection_retry=dict(RECONNECT),
                **encryption,
            )

        registry = Registry(make_client, owned=True, timeout=timeout, after_fork=after_fork)
    else:
        if hosts is not None or auth or tls is not None:
            raise BadInput("a given client has its hosts and credentials already", hint="leave hosts, auth and tls out")
        given = client
        registry = Registry(lambda: given, owned=False, timeout=timeout, after_fork=after_fork)
    registry.open(wait=wait)
    return registry
