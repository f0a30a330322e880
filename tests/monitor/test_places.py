import pytest

from zkfleet.endpoints import Endpoint
from zkfleet.errors import BadInput
from zkfleet.monitor.places import UnixPath, check_guarded, place


@pytest.mark.parametrize(
    ("address", "meant"),
    [
        (9644, Endpoint("127.0.0.1", 9644)),
        ("9644", Endpoint("127.0.0.1", 9644)),
        ("10.0.0.1:9644", Endpoint("10.0.0.1", 9644)),
        ("[::1]:9644", Endpoint("::1", 9644)),
        (":9644", Endpoint("", 9644)),
        (("", 9644), Endpoint("", 9644)),
        (("localhost", None), Endpoint("localhost", 0)),
        ("/var/run/app.sock", UnixPath("/var/run/app.sock")),
        ("app.sock", UnixPath("app.sock")),
        ("./app:1", UnixPath("./app:1")),
        (" /with/blanks ", UnixPath("/with/blanks")),
    ],
)
def test_where_an_address_leads(address, meant):
    assert place(address) == meant


@pytest.mark.parametrize("address", ["", " ", True, None, 70000, -1, "host:70000", "a\0b", "/" + "x" * 107, 1.5])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(BadInput):
        place(address)


LOCAL = [UnixPath("/s"), Endpoint("127.0.0.1", 1), Endpoint("::1", 1), Endpoint("localhost", 1), Endpoint("127.1", 1)]
REACHABLE = [Endpoint("", 1), Endpoint("10.0.0.1", 1), Endpoint("example.org", 1), Endpoint("::", 1)]
NOTHING = {"token": "", "has_client_certificates": False, "insecure": False}


@pytest.mark.parametrize("where", LOCAL)
def test_what_this_machine_alone_reaches_needs_no_secret(where):
    check_guarded(where, **NOTHING)


@pytest.mark.parametrize("where", REACHABLE)
def test_what_others_reach_needs_one_or_somebody_who_says_that_it_does_not(where):
    with pytest.raises(BadInput) as refused:
        check_guarded(where, **NOTHING)
    assert "token=" in refused.value.hint
    for guard in [{"token": "s"}, {"has_client_certificates": True}, {"insecure": True}]:
        check_guarded(where, **{**NOTHING, **guard})


@pytest.mark.parametrize("token", ["a b", "a\n", "\0"])
def test_a_token_is_one_word(token):
    with pytest.raises(BadInput, match="one word"):
        check_guarded(LOCAL[0], **{**NOTHING, "token": token})
