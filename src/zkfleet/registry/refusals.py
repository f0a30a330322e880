"""Why does no member of the ensemble let us in, and what is to be done about it?

kazoo only logs why it could not connect, so every member is dialled once more,
outside any session, and what comes of it is put into words.
"""

import contextlib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from kazoo.client import KazooClient

from zkfleet.endpoints import Endpoint
from zkfleet.registry.wire import dial

# A server that wants a certificate of ours says so only after the handshake.
SECONDS_FOR_AN_ALERT = 0.3
# OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED, ..._HOSTNAME_MISMATCH and ..._IP_ADDRESS_MISMATCH.
EXPIRED = 10
MADE_OUT_TO_ANOTHER = (62, 64)

NOT_RUNNING = "is it running there?  wait=True, or --keep-trying, waits for it"


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a member did when it was dialled; no error if it took the connection and said nothing."""

    member: str
    error: OSError | None = None

    def __str__(self) -> str:
        return (
            f"{self.member}: {self.error}" if self.error else f"{self.member} accepts connections and does not answer"
        )


def ask_members(client: KazooClient, timeout: float) -> list[Refusal]:
    """Dial every member once; each may take `timeout` seconds."""
    return [_ask(client, host, port, timeout) for host, port in client.hosts]


def _ask(client: KazooClient, host: str, port: int, timeout: float) -> Refusal:
    member = str(Endpoint(host, port))
    try:
        with dial(client, (host, port), timeout, check_hostname=client.check_hostname) as connection:
            connection.settimeout(min(timeout, SECONDS_FOR_AN_ALERT))
            with contextlib.suppress(TimeoutError):
                connection.recv(1)
    except OSError as exc:
        return Refusal(member, exc)
    return Refusal(member)


def remedy(refusals: Sequence[Refusal], *, encrypted: bool) -> str:
    """Return what to do, by the reason that waiting helps least against; pure.

    Args:
        refusals: what came of dialling each member.
        encrypted: whether the link is to be encrypted.
    """
    errors = [refusal.error for refusal in refusals]
    refused = (_of_certificate(error) for error in errors if isinstance(error, ssl.SSLCertVerificationError))
    broken = (_of_tls(error) for error in errors if isinstance(error, ssl.SSLError))
    mute = ("is it a ZooKeeper?  if that port wants TLS: tls=, or --tls-ca" for error in errors if error is None)
    return next(chain(refused, broken, () if encrypted else mute), NOT_RUNNING)


def _of_certificate(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in MADE_OUT_TO_ANOTHER:
        return "connect to the host that the certificate was made out to; TLS(check_hostname=False) does not look at it"
    if error.verify_code == EXPIRED:
        return "the server needs a new certificate; if it is not expired, the clock of this machine is wrong"
    return "name the certificate of its issuer: TLS(ca=...), or --tls-ca"


def _of_tls(error: ssl.SSLError) -> str:
    if "ALERT" in (error.reason or "") and "VERSION" not in (error.reason or ""):
        return "the server wants a certificate that it trusts: TLS(certificate=..., key=...), or --tls-certificate"
    return "that port does not speak our TLS: name the server's secureClientPort, or leave TLS out"
