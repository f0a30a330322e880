import pytest

from zkfleet import connect
from zkfleet.errors import BadAuth, BadHosts, BadInput
from zkfleet.registry.hosts import TLS, choose_hosts, credentials


def test_the_argument_comes_before_the_environment():
    environment = {"ZKFLEET_ZOOKEEPER": "a:1", "ZC_ZK_CONNECTION_STRING": "b:2"}
    assert choose_hosts("c:3", environment) == "c:3"
    assert choose_hosts(None, environment) == "a:1"
    assert choose_hosts("", {"ZC_ZK_CONNECTION_STRING": "b:2"}) == "b:2"
    assert choose_hosts(None, {}) == "127.0.0.1:2181"


@pytest.mark.parametrize(
    ("hosts", "read"),
    [
        ("a", "a:2181"),
        ("a, b:2,[::1]:3/x/y", "a:2181,b:2,[::1]:3/x/y"),
        ("[::1]", "[::1]:2181"),
        ("a:1/", "a:1"),
    ],
)
def test_ports_and_chroots_are_optional(hosts, read):
    assert choose_hosts(hosts, {}) == read


@pytest.mark.parametrize("hosts", ["a:port", "a:1,", ":2181", "a:0", "a:1//b", "a:1/./b", "::1:1", "a b:1", 5, ["a:1"]])
def test_a_malformed_connection_string_is_refused(hosts):
    with pytest.raises(BadHosts):
        choose_hosts(hosts, {})


def test_a_malformed_variable_is_named():
    with pytest.raises(BadHosts, match="ZKFLEET_ZOOKEEPER"):
        choose_hosts(None, {"ZKFLEET_ZOOKEEPER": "a:b"})


def test_credentials_are_divided_by_scheme():
    assert credentials([("digest", "u:p")]) == ([("digest", "u:p")], None)
    added, sasl = credentials([("sasl", "u:p"), ("digest", "v:q")])
    assert added == [("digest", "v:q")]
    assert sasl == {"mechanism": "DIGEST-MD5", "username": "u", "password": "p"}


@pytest.mark.parametrize("auth", ["u:p", [("digest", "nocolon")], [("digest", None)], [("x", "y")], ["ab"], [()], 5])
def test_malformed_credentials_are_refused_without_being_shown(auth):
    with pytest.raises(BadAuth) as caught:
        credentials(auth)
    assert "nocolon" not in str(caught.value)


def test_a_certificate_that_is_not_there_is_named():
    with pytest.raises(BadInput, match=r"/no/such\.pem"):
        TLS(ca="/no/such.pem").options()


def test_a_file_that_holds_no_certificate_is_blamed(tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("no certificate")
    for tls in (TLS(ca=str(file)), TLS(certificate=str(file))):
        with pytest.raises(BadInput, match=r"notes\.txt"):
            tls.options()


@pytest.mark.parametrize(
    "options",
    [
        {"jute_maxbuffer": 9_999},
        {"jute_maxbuffer": 1 << 31},
        {"jute_maxbuffer": 1e6},
        {"jute_maxbuffer": True},
        {"session_timeout": 3e6},
        {"session_timeout": 0},
        {"session_timeout": float("nan")},
        {"timeout": float("inf")},
        {"timeout": "5"},
        {"client": 5},
        {"tls": 5},
        {"after_fork": "reconect"},
    ],
)
def test_arguments_that_cannot_be_are_refused_before_anything_is_sent(options):
    with pytest.raises(BadInput):
        connect(**options)


def test_host_names_are_checked_by_default():
    assert TLS().options()["check_hostname"] is True
    assert TLS(verify=False).options()["check_hostname"] is False
