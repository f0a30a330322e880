"""Which ensemble is meant, and how is it reached?

The connection string and the credentials, checked before anything is sent:
`host:port,host:port/chroot`, digest or SASL credentials, TLS files.
"""

import importlib.util
import os
import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zkfleet import paths
from zkfleet.endpoints import parse_endpoint
from zkfleet.errors import BadAddress, BadAuth, BadHosts, BadInput, BadPath, MissingDependency

DEFAULT_PORT = 2181
DEFAULT_HOSTS = f"127.0.0.1:{DEFAULT_PORT}"
VARIABLES = ("ZKFLEET_ZOOKEEPER", "ZC_ZK_CONNECTION_STRING")

Credential = tuple[str, str | Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class TLS:
    """How to encrypt the link to the ensemble.

    Attributes:
        ca: PEM file with the certificates to trust; None for the system's.
        certificate: PEM file with our certificate, when the server wants one.
        key: PEM file with its key; None if it stands in `certificate`.
        key_password: opens the key.
        verify: check the server's certificate.
        check_hostname: check that it was made out to the host we asked for.
    """

    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    key_password: str | None = None
    verify: bool = True
    check_hostname: bool = True

    def options(self) -> dict[str, object]:
        """Return these as kazoo's keyword arguments.

        Raises:
            BadInput: a file is not there, or holds something else.
        """
        for name in ("ca", "certificate", "key"):
            file = getattr(self, name)
            if file is not None and not Path(file).is_file():
                raise BadInput(f"tls {name}: no such file: {file}")
        self._check_contents()
        return {
            "use_ssl": True,
            "ca": self.ca,
            "certfile": self.certificate,
            "keyfile": self.key or self.certificate,  # kazoo leaves a certificate without a key file out
            "keyfile_password": self.key_password,
            "verify_certs": self.verify,
            "check_hostname": self.check_hostname and self.verify,
        }

    def _check_contents(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            what = f"tls ca: {self.ca}"
            if self.ca is not None:
                context.load_verify_locations(self.ca)
            what = f"tls certificate: {self.certificate}, key: {self.key or self.certificate}"
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key, self.key_password or "")
        except (ssl.SSLError, OSError) as exc:
            raise BadInput(f"{what}: {exc}", hint="these are PEM files; the key must be the certificate's") from exc


def choose_hosts(hosts: str | None, environment: Mapping[str, str] = os.environ) -> str:
    """Return the connection string to use, checked.

    Args:
        hosts: what the caller gave; None or "" to look at `$ZKFLEET_ZOOKEEPER`,
            then `$ZC_ZK_CONNECTION_STRING`, then take 127.0.0.1:2181.
        environment: where the variables are looked up.

    Raises:
        BadHosts: it is not `host[:port][,host[:port]...][/chroot]`.
    """
    chosen, origin = chosen_by(hosts, environment)
    members, slash, chroot = chosen.partition("/")
    _check_once(chosen, chroot, origin)
    try:
        texts = [_member(member.strip()) for member in members.split(",")]
        return ",".join(texts) + (paths.check(slash + chroot.rstrip("/")) if chroot.strip("/") else "")
    except (BadAddress, BadPath) as exc:
        raise BadHosts(
            f"{origin} {chosen!r}: {exc}",
            hint="write host:port,host:port and, for a chroot, /path once at the end",
        ) from exc


def _check_once(chosen: str, chroot: str, origin: str) -> None:
    """See to it that the chroot does not follow every member: a comma may be a part of a name, this cannot be meant."""
    first, *others = chroot.split(",")
    if others and all(other.partition("/")[2] == first for other in others):
        raise BadHosts(
            f"{origin} {chosen!r} gives the chroot /{first} more than once",
            hint="write it once, at the end: host:port,host:port/chroot",
        )


def chosen_by(hosts: str | None, environment: Mapping[str, str] = os.environ) -> tuple[str, str]:
    """Return the connection string to use, not checked, and who chose it.

    Raises:
        BadHosts: it is no text.
    """
    if hosts is not None and not isinstance(hosts, str):
        raise BadHosts(f"a connection string is text, not {type(hosts).__name__}: {hosts!r}")
    if hosts:
        return hosts, "the connection string"
    for variable in VARIABLES:
        if chosen := environment.get(variable):
            return chosen, f"${variable}"
    return DEFAULT_HOSTS, "the connection string"


def _member(text: str) -> str:
    if text and (text.count(":") == 0 or text.endswith("]")):
        text = f"{text}:{DEFAULT_PORT}"
    endpoint = parse_endpoint(text)
    if not endpoint.host:
        raise BadAddress(f"{text!r} names no host")
    if not endpoint.port:
        raise BadAddress(f"{text!r}: nothing listens on port 0")
    return str(endpoint)


def credentials(auth: Iterable[Credential]) -> tuple[list[tuple[str, str]], dict[str, object] | None]:
    """Split credentials into those that ZooKeeper adds and SASL's options.

    Args:
        auth: pairs: `("digest", "user:password")`, `("sasl", "user:password")`
            or `("sasl", {...})` with kazoo's `sasl_options`.

    Raises:
        BadAuth: a pair has another form.
        MissingDependency: SASL is asked for, and its library is not installed.
    """
    if isinstance(auth, str) or not isinstance(auth, Sequence):
        raise BadAuth(f"auth is a sequence of pairs, not {auth!r}", hint='write [("digest", "user:password")]')
    added: list[tuple[str, str]] = []
    sasl: dict[str, object] | None = None
    for pair in auth:
        scheme, credential = _pair(pair)
        if scheme == "sasl":
            _require_sasl()
            sasl = _sasl(credential)
        else:
            added.append((scheme, str(credential)))
    return added, sasl


def _pair(pair: object) -> Credential:
    match pair:
        case ("sasl", str() | Mapping() as credential):
            return "sasl", credential
        case ("x509" | "ip" | "world" as scheme, str(credential)):
            return scheme, credential
        case ("digest", str(text)) if text.partition(":")[0] and ":" in text:
            return "digest", text
        case ("digest", _):
            raise BadAuth("digest credentials are not user:password", hint='write ("digest", "user:password")')
    raise BadAuth(
        f"not a pair of scheme and credential: {type(pair).__name__}", hint='write ("digest", "user:password")'
    )


def _require_sasl() -> None:
    # kazoo finds out in its own thread, and then tries for ever.
    if importlib.util.find_spec("puresasl") is None:
        raise MissingDependency("SASL needs the pure-sasl library", hint="pip install 'zkfleet[sasl]'")


def _sasl(credential: str | Mapping[str, object]) -> dict[str, object]:
    if isinstance(credential, Mapping):
        return dict(credential)
    username, colon, password = credential.partition(":")
    if not colon:
        raise BadAuth("SASL credentials are not user:password", hint='write ("sasl", "user:password")')
    return {"mechanism": "DIGEST-MD5", "username": username, "password": password}
