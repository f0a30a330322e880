"""What somebody is told who gets no answer: by the reason, not always to wait."""

import socket
import ssl

import pytest

import zkfleet
from zkfleet.errors import BadHosts, ChrootNotFound, ConnectFailed
from zkfleet.registry.hosts import choose_hosts
from zkfleet.registry.refusals import NOT_RUNNING, Refusal, remedy
from zkfleet.testing.zookeeper import free_port


def unverified(code):
    error = ssl.SSLCertVerificationError("certificate verify failed")
    error.verify_code = code
    return error


def broken(reason):
    error = ssl.SSLError(1, reason)
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("errors", "encrypted", "said"),
    [
        ([ConnectionRefusedError()], False, NOT_RUNNING),
        ([ConnectionRefusedError()], True, NOT_RUNNING),
        ([TimeoutError(), socket.gaierror()], True, NOT_RUNNING),
        ([None], True, NOT_RUNNING),
        ([None], False, "--tls-ca"),
        ([unverified(18)], True, "TLS(ca=...)"),
        ([unverified(62)], True, "made out to"),
        ([unverified(64)], True, "made out to"),
        ([unverified(10)], True, "new certificate"),
        ([broken("TLSV13_ALERT_CERTIFICATE_REQUIRED")], True, "--tls-certificate"),
        ([broken("WRONG_VERSION_NUMBER")], True, "secureClientPort"),
        ([broken(None)], True, "secureClientPort"),
        # Of several reasons the one against which waiting helps least.
        ([ConnectionRefusedError(), None, broken("WRONG_VERSION_NUMBER"), unverified(18)], True, "TLS(ca=...)"),
        ([ConnectionRefusedError(), None], False, "--tls-ca"),
    ],
)
def test_the_remedy_is_that_of_the_reason(errors, encrypted, said):
    assert said in remedy([Refusal("h:1", error) for error in errors], encrypted=encrypted)


def test_nobody_there_is_worth_waiting_for():
    with pytest.raises(ConnectFailed) as refused:
        zkfleet.connect(f"127.0.0.1:{free_port()}", timeout=0.2)
    assert refused.value.hint == NOT_RUNNING


def test_a_port_that_takes_connections_and_says_nothing_may_want_tls():
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(ConnectFailed) as refused:
        zkfleet.connect(f"127.0.0.1:{listener.getsockname()[1]}", timeout=0.2)
    assert "accepts connections and does not answer" in str(refused.value)
    assert "TLS" in refused.value.hint


@pytest.mark.parametrize("hosts", ["host/a,host/a", "h:1/a,h:2/a,h:3/a", "h:1/a/b,h:2/a/b"])
def test_a_chroot_that_is_given_more_than_once_is_refused_in_a_word(hosts):
    with pytest.raises(BadHosts, match="more than once") as refused:
        choose_hosts(hosts, {})
    assert refused.value.hint == "write it once, at the end: host:port,host:port/chroot"


def test_a_comma_may_be_a_part_of_a_name():
    assert choose_hosts("h:1,h:2/a,b", {}) == "h:1,h:2/a,b"
    assert choose_hosts("h:1/a,h/b", {}) == "h:1/a,h/b"


def test_a_chroot_with_a_comma_that_is_not_there_is_told_how_it_is_written(zookeeper):
    with pytest.raises(ChrootNotFound) as missing:
        zkfleet.connect(f"{zookeeper.hosts}/a,{zookeeper.hosts}/b")
    assert missing.value.hint == "the chroot stands once, at the end: host:port,host:port/chroot"
