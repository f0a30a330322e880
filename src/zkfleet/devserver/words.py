"""What does an operator hear who asks with four letters?

The answers to `ruok`, `srvr` and their kin, in the form of ZooKeeper 3.8, as
monitoring tools read them.  A connection that begins with such a word gets the
answer and is closed.
"""

import platform
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from zkfleet.devserver.requests import Op

if TYPE_CHECKING:
    from zkfleet.devserver.dispatch import Peer, Server

# What was done last on a connection, as the real one abbreviates it.
_LAST: dict[Op | None, str] = {
    **dict.fromkeys((Op.CREATE, Op.CREATE2, Op.CREATE_CONTAINER, Op.CREATE_TTL), "CREA"),
    **dict.fromkeys((Op.GET_CHILDREN, Op.GET_CHILDREN2), "GETC"),
    None: "SESS",
    Op.DELETE: "DELE",
    Op.EXISTS: "EXIS",
    Op.GET_DATA: "GETD",
    Op.SET_DATA: "SETD",
    Op.GET_ACL: "GETA",
    Op.SET_ACL: "SETA",
    Op.SYNC: "SYNC",
    Op.PING: "PING",
    Op.MULTI: "MULT",
    Op.MULTI_READ: "MLTR",
    Op.CHECK: "CHEC",
    Op.CHECK_WATCHES: "CHKW",
    Op.REMOVE_WATCHES: "REMW",
    Op.SET_WATCHES: "SETW",
    Op.SET_WATCHES2: "STW2",
    Op.ADD_WATCH: "ADDW",
    Op.GET_EPHEMERALS: "GETE",
    Op.COUNT_ALL: "GETACN",
    Op.WHO_AM_I: "HOMI",
}
VERSION = "3.8.0-zkfleet-development-server, built on nothing: it is Python"


def _ruok(_server: "Server", _now: float) -> str:
    return "imok"


def _isro(_server: "Server", _now: float) -> str:
    return "rw"


def _srvr(server: "Server", _now: float) -> str:
    return f"Zookeeper version: {VERSION}\n" + "".join(_counts(server))


def _stat(server: "Server", _now: float) -> str:
    clients = "".join(f"{_connection(peer)})\n" for peer in server.peers.values())
    return f"Zookeeper version: {VERSION}\nClients:\n{clients}\n" + "".join(_counts(server))


def _counts(server: "Server") -> Iterator[str]:
    yield "Latency min/avg/max: 0/0.0/0\n"
    yield f"Received: {server.received}\nSent: {server.sent}\n"
    yield f"Connections: {len(server.peers)}\nOutstanding: 0\n"
    yield f"Zxid: 0x{server.database.zxid:x}\nMode: standalone\nNode count: {_node_count(server)}\n"


def _node_count(server: "Server") -> int:
    # The real one has the root twice, once without a name.
    return len(server.database.nodes) + 1


def _connection(peer: "Peer") -> str:
    return f" /{peer.address}:{peer.port}[1](queued=0,recved={peer.received},sent={peer.sent}"


def _cons(server: "Server", _now: float) -> str:
    return "".join(f"{_connection(peer)}{_session(server, peer)})\n" for peer in server.peers.values()) + "\n"


def _session(server: "Server", peer: "Peer") -> str:
    if not peer.session:
        return ""
    last = _LAST.get(peer.last, "NA")
    # A new session begins with the transaction that opened it.
    last_xid = 0 if peer.last is None else peer.last_xid
    xid = f",lcxid=0x{last_xid:x}" if last_xid >= 0 else ""
    return (
        f",sid=0x{peer.session:x},lop={last},est={server.time(peer.since)},to={peer.timeout * 1000:.0f}{xid}"
        f",lzxid=0x{max(peer.last_zxid, 0):x},lresp=0,llat=0,minlat=0,avglat=0,maxlat=0"
    )


def _mntr(server: "Server", now: float) -> str:
    database = server.database
    values = {
        "version": VERSION,
        "server_state": "standalone",
        "ephemerals_count": sum(map(len, database.ephemerals.values())),
        "num_alive_connections": len(server.peers),
        "avg_latency": 0.0,
        "min_latency": 0,
        "max_latency": 0,
        "outstanding_requests": 0,
        "znode_count": _node_count(server),
        "global_sessions": len(server.sessions.timeouts),
        "packets_sent": server.sent,
        "packets_received": server.received,
        "watch_count": server.watches.count,
        "approximate_data_size": sum(len(path) + len(node.data or b"") for path, node in database.nodes.items()),
        "local_sessions": 0,
        "uptime": int((now - server.since) * 1000),
    }
    return "".join(f"zk_{name}\t{value}\n" for name, value in values.items())


def _conf(server: "Server", _now: float) -> str:
    sessions = server.sessions
    return (
        f"tickTime={sessions.tick * 1000:.0f}\nmaxClientCnxns=0\n"
        f"minSessionTimeout={sessions.shortest * 1000:.0f}\nmaxSessionTimeout={sessions.longest * 1000:.0f}\n"
        "serverId=0\n"
    )


def _dump(server: "Server", _now: float) -> str:
    deadlines, ephemerals = server.sessions.deadlines(), server.database.ephemerals
    lines = ["SessionTracker dump:", f"Session Sets ({len(deadlines)})/({len(server.sessions.timeouts)}):"]
    for deadline, sessions in deadlines.items():
        lines.append(f"{len(sessions)} expire at {_date(server.time(deadline))}:")
        lines += [f"\t0x{session:x}" for session in sessions]
    owned = {session: paths for session, paths in ephemerals.items() if paths}
    lines += ["ephemeral nodes dump:", f"Sessions with Ephemerals ({len(owned)}):"]
    for session, paths in owned.items():
        lines += [f"0x{session:x}:", *(f"\t{path}" for path in paths)]
    ends = _connections_by_end(server)
    lines += ["Connections dump:", f"Connections Sets ({len(ends)})/({len(server.peers)}):"]
    for end, peers in sorted(ends.items()):
        lines.append(f"{len(peers)} expire at {_date(server.time(end))}:")
        lines += [f"\tip: /{peer.address}:{peer.port} sessionId: 0x{peer.session:x}" for peer in peers]
    return "\n".join([*lines, ""])


def _connections_by_end(server: "Server") -> dict[float, list["Peer"]]:
    """Return who would be given up when, in steps of ten seconds as in the real one."""
    found: dict[float, list[Peer]] = {}
    for peer in server.peers.values():
        end = ((peer.heard + (peer.timeout or 10.0)) // 10 + 1) * 10
        found.setdefault(end, []).append(peer)
    return found


def _date(milliseconds: float) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%a %b %d %H:%M:%S UTC %Y")


def _wchs(server: "Server", _now: float) -> str:
    watching, watched = server.watches.by_connection(), server.watches.by_path()
    total = sum(map(len, watching.values()))
    return f"{len(watching)} connections watching {len(watched)} paths\nTotal watches:{total}\n"


def _wchc(server: "Server", _now: float) -> str:
    found = []
    for connection, paths in server.watches.by_connection().items():
        found.append(f"0x{server.peers[connection].session:x}\n")
        found += [f"\t{path}\n" for path in sorted(paths)]
    return "".join(found) + "\n"


def _wchp(server: "Server", _now: float) -> str:
    found = []
    for path, watching in server.watches.by_path().items():
        found.append(f"{path}\n")
        found += [f"\t0x{server.peers[connection].session:x}\n" for connection in watching]
    return "".join(found) + "\n"


def _envi(_server: "Server", _now: float) -> str:
    values = {
        "zookeeper.version": VERSION,
        "host.name": platform.node(),
        "python.version": f"{platform.python_implementation()} {platform.python_version()}",
        "os.name": platform.system(),
        "os.arch": platform.machine(),
        "os.version": platform.release(),
    }
    return "Environment:\n" + "".join(f"{name}={value}\n" for name, value in values.items())


WORDS: dict[bytes, Callable[["Server", float], str]] = {
    b"ruok": _ruok,
    b"stat": _stat,
    b"srvr": _srvr,
    b"mntr": _mntr,
    b"conf": _conf,
    b"cons": _cons,
    b"dump": _dump,
    b"wchs": _wchs,
    b"wchc": _wchc,
    b"wchp": _wchp,
    b"envi": _envi,
    b"isro": _isro,
}
