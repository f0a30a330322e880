"""How does a configuration file say where a monitor listens, and who may ask it?

The same words in every file: `monitor-token-file` in the `<zookeeper>` section of
a ZEO server is `token-file` in Zope's `<product-config zkfleet.monitor>`.  A
reader of files makes a `MonitorSettings` of what it found; its `starter` looks at
the files that are named and refuses what would answer everybody, before anything
is open.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Self

from zkfleet.errors import BadInput
from zkfleet.monitor.encrypted import Certificates
from zkfleet.monitor.places import Address, check_guarded, place
from zkfleet.monitor.starting import Monitor, start
from zkfleet.monitor.tokens import token_in

WORDS = ("http", "token-file", "certificate", "key", "authorities", "actions")
"""What a file may say of a monitor beside its address."""
_STANDS_ON = {"key": "certificate", "authorities": "certificate"}


@dataclass(frozen=True, slots=True)
class Spelling:
    """How a file spells the words.

    Attributes:
        address: the key of the address.
        prefix: what the other keys begin with.
    """

    address: str
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class MonitorSettings:
    """How a process is asked.

    Attributes:
        address: where the monitor listens; None for a socket of this process.
        http: where it answers over HTTP; None for nowhere.
        token_file: a file with the token that clients begin with; None for no need of one.
        certificate: a PEM file, for TLS; None for none.
        key: that of its key, if it is in another one.
        authorities: that of whose certificates clients need; None for none.
        actions: whether clients may change something.
    """

    address: Address | None
    http: Address | None = None
    token_file: str | None = None
    certificate: str | None = None
    key: str | None = None
    authorities: str | None = None
    actions: bool = False

    @classmethod
    def of(cls, address: Address | None, said: Mapping[str, Any], spelling: Spelling) -> Self:
        """Return what a file says: values by the words of `WORDS`.

        Raises:
            BadInput: a key is of no use without another one.
        """
        for word, needed in _STANDS_ON.items():
            if word in said and needed not in said:
                prefix = spelling.prefix
                raise BadInput(f"{prefix}{word} is of no use without {prefix}{needed}", hint=f"add {prefix}{needed}")
        return cls(address, **{word.replace("-", "_"): value for word, value in said.items()})

    def starter(self, spelling: Spelling) -> Callable[[], Monitor | Literal[False]]:
        """Return what starts the monitor.

        Raises:
            BadInput: a file cannot be used, or others reach the monitor and nobody would ask who they are;
                the message names the key.
        """
        prefix = spelling.prefix
        token, tls = "", None
        if self.token_file:
            with naming(f"{prefix}token-file"):
                token = token_in(self.token_file)
        if self.certificate:
            with naming(f"{prefix}certificate"):
                tls = Certificates(self.certificate, self.key, self.authorities).context()
        asks = self.authorities is not None
        guard = f"give it {prefix}token-file, or {prefix}certificate and {prefix}authorities; or a port of 127.0.0.1"
        for key, address in ((spelling.address, self.address), (f"{prefix}http", self.http)):
            if address is not None:
                with naming(key):
                    where = place(address)
                with naming(key, hint=guard):
                    check_guarded(where, token=token, has_client_certificates=asks, insecure=False)
        return partial(start, self.address, token=token or None, tls=tls, actions=self.actions, http=self.http)


@contextmanager
def naming(where: str, *, hint: str = "") -> Iterator[None]:
    """Say of what is wrong in here where it was written, and what to do if that is known better here."""
    try:
        yield
    except BadInput as exc:
        raise BadInput(f"{where}: {exc}", hint=hint or exc.hint) from exc
