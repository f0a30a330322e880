import json

from kazoo.security import make_acl

from zkfleet.registry.identity import new_instance

TREE = """
/svc
  gone -> /nothing
  one -> two
  two -> one
  value => /svc2 x
  /providers
/svc2
  /providers
"""


def kinds(registry, path="/"):
    return sorted((finding.path, finding.kind) for finding in registry.doctor(path))


def test_a_healthy_tree_has_no_findings(registry):
    registry.import_tree("/svc\n  l -> /svc/providers\n  /providers\n")
    registry.register("/svc/providers", "10.0.0.1:80")
    assert registry.doctor() == []


def test_everything_that_is_wrong_is_found(registry, kazoo):
    registry.import_tree(TREE)
    dead = json.dumps({"pid": 4_000_000, "instance": new_instance()}).encode()
    kazoo.create("/svc/providers/10.0.0.1:80", dead, ephemeral=True)
    kazoo.create("/svc2/providers/10.0.0.1:80", b"{}", ephemeral=True)
    kazoo.create("/svc2/providers/10.0.0.2:80", b"junk", ephemeral=True)
    kazoo.create("/svc2/providers/10.0.0.3:80", b"{}")
    kazoo.create("/bytes", b"\xff")
    kazoo.create("/big", b"x" * 900_000)
    kazoo.create("/closed", acl=[make_acl("world", "anyone", delete=True)])
    assert kinds(registry) == [
        ("/big", "near the packet limit"),
        ("/bytes", "unreadable"),
        ("/closed", "unreadable"),
        ("/svc", "dangling link"),
        ("/svc", "dangling link"),
        ("/svc", "link loop"),
        ("/svc", "link loop"),
        ("/svc/providers/10.0.0.1:80", "dead provider"),
        ("/svc/providers/10.0.0.1:80", "same endpoint twice"),
        ("/svc2/providers/10.0.0.1:80", "same endpoint twice"),
        ("/svc2/providers/10.0.0.2:80", "unreadable"),
        ("/svc2/providers/10.0.0.3:80", "persistent provider"),
    ]
    assert all(finding.remedy for finding in registry.doctor())
    assert kinds(registry, "/bytes") == [("/bytes", "unreadable")]
