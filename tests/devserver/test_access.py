"""Who may do what with a znode."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kazoo.security import make_digest_acl_credential

from zkfleet.devserver.access import (
    ADMIN,
    ALL,
    OPEN,
    READ,
    READABLE,
    WRITE,
    Identity,
    authenticate,
    check,
    settled,
    without_secrets,
)
from zkfleet.devserver.codes import Code, Refused
from zkfleet.devserver.jute import AclEntry

HERE = Identity("ip", "10.1.2.3")
ANN = authenticate("digest", b"ann:pw", "10.1.2.3")


def may(acl, bits, *identities):
    try:
        check(tuple(acl), bits, identities)
    except Refused:
        return False
    return True


def test_who_may_not_is_told_so():
    with pytest.raises(Refused) as refused:
        check(READABLE, WRITE, [HERE])
    assert refused.value.code is Code.NO_AUTH


def test_a_password_is_hashed_as_clients_hash_it():
    assert ANN.id == make_digest_acl_credential("ann", "pw")
    assert ANN.user == "ann"
    assert "pw" not in ANN.id.partition(":")[2]


@given(st.binary())
def test_any_credential_of_the_scheme_digest_is_an_identity(credential):
    assert authenticate("digest", credential, "1.2.3.4").scheme == "digest"


def test_the_scheme_ip_proves_where_one_is_whatever_one_says():
    assert authenticate("ip", b"8.8.8.8", "10.1.2.3") == HERE


def test_no_credential_proves_nothing():
    with pytest.raises(Refused):
        authenticate("digest", None, "10.1.2.3")


@pytest.mark.parametrize("scheme", ["", "world", "sasl", "x509", "DIGEST"])
def test_other_schemes_prove_nothing(scheme):
    with pytest.raises(Refused) as refused:
        authenticate(scheme, b"ann:pw", "10.1.2.3")
    assert refused.value.code is Code.AUTH_FAILED


def test_the_world_may_what_it_may():
    assert may(OPEN, ALL)
    assert may(READABLE, READ)
    assert not may(READABLE, WRITE, HERE, ANN)


def test_one_matching_entry_with_one_of_the_bits_is_enough():
    acl = (AclEntry(READ, *ANN), AclEntry(WRITE, "ip", "10.0.0.0/8"))
    assert may(acl, READ, HERE, ANN)
    assert not may(acl, READ, HERE)
    assert may(acl, WRITE, HERE)
    assert may(acl, READ | ADMIN, ANN)


@pytest.mark.parametrize(
    ("network", "inside"),
    [
        ("10.1.2.3", True),
        ("10.1.2.4", False),
        ("10.1.0.0/16", True),
        ("10.1.2.9/24", True),
        ("0.0.0.0/0", True),
        ("10.1.3.0/24", False),
        ("+10.01.2.003/+32", True),
        ("10.1.2.3/-0", True),
        ("1\u0660.1.2.0/2\u0664", True),
    ],
)
def test_addresses_are_matched_by_their_first_bits(network, inside):
    assert may([AclEntry(READ, "ip", network)], READ, HERE) is inside


def test_somebody_from_an_ipv6_address_matches_no_ipv4_network():
    assert not may([AclEntry(READ, "ip", "0.0.0.0/0")], READ, Identity("ip", "::1"))


@pytest.mark.parametrize(
    ("scheme", "id_"),
    [
        ("world", "somebody"),
        ("world", ""),
        ("digest", "ann"),
        ("digest", "ann:x:y"),
        ("digest", ""),
        ("ip", "10.1.2"),
        ("ip", "10.1.2.3."),
        ("ip", " 10.1.2.3"),
        ("ip", "10.1.2._3"),
        ("ip", "10.1.2.256"),
        ("ip", "10.1.2.-1"),
        ("ip", "10.1.2.3/33"),
        ("ip", "10.1.2.3/255.0.0.0"),
        ("ip", "10.1.2.3/"),
        ("ip", "10.1.2.3/" + "9" * 5000),
        ("ip", "::1"),
        ("nonsense", "x"),
        ("", ""),
    ],
)
def test_entries_that_name_nobody_are_refused(scheme, id_):
    with pytest.raises(Refused) as refused:
        settled([AclEntry(ALL, scheme, id_)], [HERE, ANN])
    assert refused.value.code is Code.INVALID_ACL


def test_nobody_at_all_is_refused():
    with pytest.raises(Refused):
        settled([], [HERE])


def test_auth_means_whoever_one_has_shown_to_be():
    bob = authenticate("digest", b"bob:pw", "10.1.2.3")
    assert settled([AclEntry(READ, "auth", "")], [HERE, ANN, bob]) == (AclEntry(READ, *ANN), AclEntry(READ, *bob))
    with pytest.raises(Refused):
        settled([AclEntry(READ, "auth", "")], [HERE])


def test_an_entry_that_comes_twice_counts_once():
    assert settled([*OPEN, *OPEN], []) == OPEN


@given(st.text(), st.text(), st.integers(0, 31))
def test_no_wish_is_answered_but_with_entries_or_a_refusal(scheme, id_, bits):
    try:
        found = settled([AclEntry(bits, scheme, id_)], [HERE])
    except Refused:
        return
    may(found, bits, HERE)


def test_secrets_are_hidden_and_nothing_else():
    acl = (AclEntry(ALL, *ANN), AclEntry(READ, "ip", "10.0.0.0/8"), AclEntry(READ, "world", "anyone"))
    assert without_secrets(acl) == (AclEntry(ALL, "digest", "ann:x"), *acl[1:])
