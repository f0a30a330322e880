"""How is a ZEO server configured?

Reads ZEO's own configuration with a `<zookeeper>` section, from a file, a text
or the command line, into one value.  Nothing is opened here.
"""

import io
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import unquote

import ZConfig
from ZEO.runzeo import ZEOOptions

from zkfleet.errors import BadInput
from zkfleet.registry.connecting import DEFAULT_PACKET_LIMIT, client_options
from zkfleet.zeo.insides import Repair, require
from zkfleet.zeo.monitored import of_section as monitor_of
from zkfleet.zeo.openings import no_text

if TYPE_CHECKING:
    from zkfleet.monitor.settings import MonitorSettings

CONFIGURATION = Repair(
    "a configuration with a <zookeeper> section",
    without="none can be read",
    needs=(
        "ZEO.runzeo:ZEOOptions.logsectionname",
        "ZEO.runzeo:ZEOOptions.realize",
        "ZEO.runzeo:ZEOOptions.schemadir",
        "ZEO.runzeo:ZEOOptionsMixin.add_zeo_options",
        "ZEO.runzeo:ZEOOptionsMixin.handle_address sets address",
        "ZEO.runzeo:ZEOOptionsMixin.handle_filename sets storages",
        "zdaemon.zdoptions:ZDOptions.add(name, confname)",
        "zdaemon.zdoptions:ZDOptions.configfile",
        "zdaemon.zdoptions:ZDOptions.default_configfile",
        "zdaemon.zdoptions:ZDOptions.load_configfile",
        "zdaemon.zdoptions:ZDOptions.load_configfile sets configroot, confighandlers",
        "zdaemon.zdoptions:ZDOptions.load_schema",
        "zdaemon.zdoptions:ZDOptions.load_schema sets schema",
        "zdaemon.zdoptions:ZDOptions.usage(msg)",
        "zdaemon.zdoptions:ZDOptions.__init__ sets required_map, zconfig_options",
    ),
)
EVERYWHERE = ("", 0)
NO_DIRECTORY = "directory named as part of the path"
"""What ZConfig says of a file whose directory is missing."""
UNKNOWN_KEY = re.compile("'(.+)' is not a known key name")
NOT_CONSUMED = "not all command line options were consumed"


@dataclass(frozen=True, slots=True)
class ZooKeeper:
    """The `<zookeeper>` section.

    Attributes:
        connection: the ensemble; None for the default.
        path: of the service; "" if all storages have a path of their own.
        session_timeout: seconds.
        monitor: how the server is asked what it does, or None.
        advertise: what to register instead of the host, or None.
        standby: whether to serve only while no other server does.
        drain_timeout: seconds.
        storage_paths: paths of single storages, by the storage's name.
        max_connections: how many clients may be connected; None for as many as files allow.
        jute_maxbuffer: the ensemble's, in bytes.
    """

    connection: str | None
    path: str
    session_timeout: float
    monitor: "MonitorSettings | None"
    advertise: str | None
    standby: bool
    drain_timeout: float
    storage_paths: Mapping[str, str]
    max_connections: int | None = None
    jute_maxbuffer: int = DEFAULT_PACKET_LIMIT

    @classmethod
    def of_section(cls, section: Any) -> "ZooKeeper":
        """Return what a parsed section says."""
        paths = section.storage_paths.paths if section.storage_paths else {}
        if not section.path and not paths:
            raise ValueError("path is missing: at which node is the server registered?")
        return cls(
            connection=section.connection,
            path=section.path or "",
            session_timeout=section.session_timeout or 10.0,
            monitor=monitor_of(section),
            advertise=section.advertise,
            standby=section.standby,
            drain_timeout=section.drain_timeout,
            storage_paths=paths,
            max_connections=section.max_connections,
            jute_maxbuffer=section.jute_maxbuffer or DEFAULT_PACKET_LIMIT,
        )

    def places(self, storages: Sequence[str]) -> dict[str, list[str]]:
        """Return where storages are registered: their names, by path."""
        places: dict[str, list[str]] = {}
        for name in storages:
            places.setdefault(self.storage_paths.get(name, self.path), []).append(name)
        return places


@dataclass(frozen=True, slots=True)
class Settings:
    """What a ZEO server is to do.

    Attributes:
        address: `(host, port)` or the path of a Unix-domain socket; port 0 for any that is free.
        storages: functions that open them, by name.
        read_only: whether clients may write.
        zookeeper: where it is registered; None for nowhere.
        options: ZEO's others, as its `StorageServer` wants them.
    """

    address: tuple[str, int] | str
    storages: Mapping[str, Callable[[], Any]]
    read_only: bool = False
    zookeeper: ZooKeeper | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def drain_timeout(self) -> float:
        """Seconds that a commit under way has at the end."""
        return self.zookeeper.drain_timeout if self.zookeeper else 10.0

    @property
    def max_connections(self) -> int | None:
        """How many clients may be connected; None for as many as files allow."""
        return self.zookeeper.max_connections if self.zookeeper else None

    @property
    def port_is_dynamic(self) -> bool:
        """Whether the system picks the port, so that nobody finds the server who does not ask ZooKeeper."""
        return not isinstance(self.address, str) and not self.address[1]


class Options(ZEOOptions):  # type: ignore[misc]  # ZEO has no types
    """A ZEO server's options, from its command line and its configuration.

    Args:
        text: a configuration, in place of the file that `-C` names.
        eventlog: whether to start the logging that is configured.
    """

    schemadir = str(Path(__file__).parent)

    def __init__(self, text: str | None = None, *, eventlog: bool = False) -> None:
        require(CONFIGURATION)
        super().__init__()
        self.add("zookeeper", "zookeeper")
        # It may be left out, for a port that is registered.
        self.required_map.pop("address", None)
        self._text = text
        self.logsectionname = "eventlog" if eventlog else None

    def usage(self, msg: object) -> NoReturn:
        """Refuse what was given."""
        raise BadInput(str(msg))

    def default_configfile(self) -> str | None:
        """Return a name for the text that takes the place of a file."""
        return None if self._text is None else "configuration"

    def load_schema(self) -> None:
        """Load ZEO's schema with our section; the address may be left out."""
        super().load_schema()
        zeo = self.schema.gettype("zeo")
        for index in range(len(zeo)):
            key, info = zeo[index]
            if key == "address":
                info.minOccurs = 0

    def load_configfile(self) -> None:
        """Read the configuration."""
        try:
            if self._text is None:
                super().load_configfile()
            else:
                self.configroot, self.confighandlers = ZConfig.loadConfigFile(self.schema, io.StringIO(self._text))
        except UnicodeDecodeError as exc:
            raise no_text(str(self.configfile)) from exc
        except ZConfig.ConfigurationError as exc:
            raise self._refused(exc) from exc

    def _refused(self, exc: ZConfig.ConfigurationError) -> BadInput:
        message, hint = _message(exc), _hint(exc)
        if unknown := UNKNOWN_KEY.search(message):
            near = get_close_matches(unknown[1], self._keys(), n=1)
            hint = f"is {near[0]} meant?" if near else hint
        if NOT_CONSUMED in message:
            given = ", ".join(f"-X {option}" for option in self.zconfig_options)
            return BadInput(
                f"{given}: the configuration has no such section, or it knows no such key",
                hint="write -X SECTION/KEY=VALUE, such as -X zeo/read-only=true; the section must be in the file",
            )
        return BadInput(f"{self._place(exc)}: {message}", hint=hint)

    def _keys(self) -> set[str]:
        """Return the names of the keys of all sections that a configuration may have."""
        kinds = [self.schema.gettype(name) for name in self.schema.gettypenames()]
        found = {kind[index][0] for kind in kinds if not kind.isabstract() for index in range(len(kind))}
        return {name for name in found if name and name not in "*+"}

    def _place(self, exc: ZConfig.ConfigurationError) -> str:
        file = unquote((exc.url or str(self.configfile)).removeprefix("file://"))
        line = getattr(exc, "lineno", None) or 0
        return f"{file}:{line}" if line > 0 else file

    def settings(self) -> Settings:
        """Return what was given, as a value."""
        address = self.address
        if address is None and not self.zookeeper:
            self.usage("no server address: without a <zookeeper> section nobody would find it")
        self._check_places()
        msgpack = self.msgpack if isinstance(self.msgpack, bool) else bool(os.environ.get("ZEO_MSGPACK"))
        return Settings(
            address=EVERYWHERE if address is None else _listened(address),
            storages={opener.name: opener.open for opener in self.storages},
            read_only=bool(self.read_only),
            zookeeper=self.zookeeper,
            options={name: getattr(self, name) for name in _HANDED_ON} | {"msgpack": msgpack},
        )

    def _check_places(self) -> None:
        """See that every storage is registered somewhere, and nothing else."""
        if not self.zookeeper:
            return
        served = [opener.name for opener in self.storages]
        unknown = sorted(set(self.zookeeper.storage_paths) - set(served))
        if unknown:
            self.usage(f"storage-paths: no storage is named {unknown[0]}; there are {', '.join(served)}")
        lost = [name for name in served if not self.zookeeper.path and name not in self.zookeeper.storage_paths]
        if lost:
            self.usage(
                f"<zookeeper>: the storage {lost[0]} has no path: give it one in storage-paths, or a path for all"
            )


_HANDED_ON = ("invalidation_queue_size", "invalidation_age", "transaction_timeout", "ssl", "client_conflict_resolution")


def read_settings(config: Path | str) -> Settings:
    """Return what a configuration says.

    Args:
        config: the path of a file, or a text.

    Raises:
        BadInput: something in it is wrong; the message says where.
    """
    if isinstance(config, str) and "\n" not in config:
        raise BadInput(f"{config!r} is no configuration", hint="the name of a file is given as a pathlib.Path")
    options = Options(config) if isinstance(config, str) else Options()
    options.realize([] if isinstance(config, str) else ["-C", str(config)])
    return options.settings()


def _listened(address: Any) -> tuple[str, int] | str:
    if isinstance(address, str):
        return address
    host, port = address
    if str(host).isdecimal():  # what ZConfig takes for a port it gives as one
        raise BadInput(f"address {host!r} is no port: they are 1 to 65535", hint="write PORT, HOST:PORT or PATH")
    # Bound alone it would leave IPv4 out, and IPv4 addresses are what is registered.
    return "" if host == "::" else host, port or 0


def _message(exc: ZConfig.ConfigurationError) -> str:
    # What a value could not be made of is said best by who tried.
    return " ".join(str(getattr(exc, "exception", exc.message)).split())


def _hint(exc: ZConfig.ConfigurationError) -> str:
    problem = getattr(exc, "exception", None)
    # Of a datatype's error ZConfig keeps the exception, and so its hint.
    if NO_DIRECTORY in str(problem):
        return "make the directory, or mount the disk that has it, or mend the path"
    return str(getattr(problem, "hint", ""))


# -- what the schema's keys hold


def connection(text: str) -> str:
    """Check a connection string."""
    client_options(text)
    return text


def storage_name(text: str) -> str:
    """Return a storage's name as ZConfig writes the names of sections."""
    return text.lower()


def seconds(text: str) -> float:
    """Return a number of seconds."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise ValueError(f"{text} is no number of seconds")
    return number


def count(text: str) -> int:
    """Return a number of things of which there must be one."""
    if not (text.isascii() and text.isdecimal()) or int(text) < 1:
        raise ValueError(f"{text} is no number of connections: one is the least")
    return int(text)
