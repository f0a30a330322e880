"""A real server that knows users by SASL's DIGEST-MD5."""

import pytest
from kazoo.security import make_acl

import zkfleet
from tests.conftest import wait_for
from zkfleet.errors import AccessDenied, BadAuth
from zkfleet.testing import ZooKeeperServer

pytestmark = pytest.mark.slow
JAAS = """
Server {
    org.apache.zookeeper.server.auth.DigestLoginModule required
    user_operator="secret";
};
"""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sasl")
    (folder / "jaas.conf").write_text(JAAS)
    with ZooKeeperServer(
        folder / "server",
        settings=["authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider"],
        java_options=[f"-Djava.security.auth.login.config={folder / 'jaas.conf'}"],
    ) as server:
        yield server.hosts


def test_a_user_is_known_by_sasl(guarded):
    with zkfleet.connect(guarded, auth=[("sasl", "operator:secret")]) as registry:
        registry.import_tree("/closed\n  x = 1\n", acl=[make_acl("sasl", "operator", all=True)])
        assert registry.get_properties("/closed") == {"x": 1}
    with zkfleet.connect(guarded) as registry, pytest.raises(AccessDenied, match="/closed"):
        registry.get_properties("/closed")


def test_a_wrong_password_is_refused_and_not_shown(guarded):
    with pytest.raises(BadAuth) as caught:
        zkfleet.connect(guarded, auth=[("sasl", "operator:guessed")], timeout=5)
    assert "guessed" not in str(caught.value)


def test_a_session_after_an_expiry_is_known_too(guarded):
    from zkfleet.testing import expire_session

    with zkfleet.connect(guarded, auth=[("sasl", "operator:secret")], session_timeout=4) as registry:
        registry.import_tree("/kept\n  x = 1\n", acl=[make_acl("sasl", "operator", all=True)])
        expire_session(guarded, registry.session.client.client_id)
        wait_for(lambda: registry.statistics().expiries == 1)
        assert registry.get_properties("/kept") == {"x": 1}
