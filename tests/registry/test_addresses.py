"""What is published on machines of several kinds: each is a network namespace with real interfaces."""

import json
import shutil
import subprocess
import sys

import pytest

LO = "ip link set lo up"
PAIR = f"{LO}; ip link add eth0 type veth peer name veth77; ip link set eth0 up; ip link set veth77 up"
IPV6 = "ip addr add 2001:db8::5/64 dev eth0 nodad"
NO_IPV6 = "sysctl -qw net.ipv6.conf.all.disable_ipv6=1"
IPV4 = "ip addr add 198.51.100.5/24 dev eth0"
DOCKER = "; ".join(
    f"ip link add {name} type bridge; ip link set {name} up; ip addr add {address} dev {name} {flag}"
    for name, address, flag in [
        ("docker0", "172.17.0.1/16", ""),
        ("docker0", "fd00:d0::1/64", "nodad"),
        ("br-0123456789ab", "172.18.0.1/16", ""),
    ]
)


def can_unshare():
    command = ["unshare", "--net", "sh", "-c", f"{PAIR}; {IPV6}"]
    return bool(shutil.which("unshare")) and subprocess.run(command, capture_output=True).returncode == 0


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not can_unshare(), reason="no network namespaces with IPv6 can be made here"),
]


def run(machine, program, *arguments):
    command = f'{machine}; exec "$@"'
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", command, "sh", sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    return json.loads(done.stdout)


REGISTER = """
import json, sys, zkfleet
from zkfleet.devserver import DevServer

with DevServer() as server, zkfleet.connect(server.hosts) as registry:
    registry.make_node("/providers")
    published = []
    for address, advertise in json.loads(sys.argv[1]):
        with registry.register("/providers", address, advertise=advertise or None) as registration:
            published.append(list(registration.addresses))
    print(json.dumps(published))
"""
EVERYWHERE = [":80", "0.0.0.0:80", "[::]:80"]


@pytest.mark.parametrize(
    ("machine", "published"),
    [
        (LO, [["127.0.0.1:80"]] * 3),
        (f"{PAIR}; {IPV6}; {DOCKER}", [["[2001:db8::5]:80"]] * 3),
        (
            f"{PAIR}; {IPV4}; {IPV6}; {DOCKER}",
            [["198.51.100.5:80", "[2001:db8::5]:80"], ["198.51.100.5:80"], ["198.51.100.5:80", "[2001:db8::5]:80"]],
        ),
    ],
    ids=["alone", "IPv6", "both"],
)
def test_a_machine_publishes_what_others_can_reach(machine, published):
    assert run(machine, REGISTER, json.dumps([(address, "") for address in EVERYWHERE])) == published


def test_what_is_advertised_is_a_name_a_network_or_an_interface():
    wanted = ["web1.example.com", "198.51.0.0/16", "2001:db8::/32", "eth0", "docker0", "eth0:81"]
    assert run(f"{PAIR}; {IPV4}; {IPV6}; {DOCKER}", REGISTER, json.dumps([(":80", each) for each in wanted])) == [
        ["web1.example.com:80"],
        ["198.51.100.5:80"],
        ["[2001:db8::5]:80"],
        ["198.51.100.5:80", "[2001:db8::5]:80"],
        ["172.17.0.1:80", "[fd00:d0::1]:80"],
        ["198.51.100.5:81", "[2001:db8::5]:81"],
    ]


SERVE = """
import json, socket, sys, zkfleet
from tests.zeo.making import a_config, addresses
from zkfleet.devserver import DevServer
from zkfleet.zeo import Server

with DevServer() as server, zkfleet.connect(server.hosts) as registry:
    registry.import_tree("/databases\\n  /main\\n")
    published = []
    for address in sys.argv[2:]:
        with Server(a_config(address=address, zookeeper=server.hosts)):
            places = []
            while len(places) < int(sys.argv[1]):
                places = addresses(registry)
            for place in places:
                socket.create_connection(place, 5).close()
            published.append(sorted(host for host, port in places))
    print(json.dumps(published))
"""


@pytest.mark.parametrize(
    ("machine", "published"),
    [
        (IPV6, [["2001:db8::5"]] * 4),
        (f"{IPV4}; {NO_IPV6}", [["198.51.100.5"]] * 4),
        (f"{IPV4}; {IPV6}", [["198.51.100.5", "2001:db8::5"]] * 4),
    ],
    ids=["IPv6", "IPv4, and IPv6 is off", "both"],
)
def test_a_zeo_server_is_reached_at_all_that_it_publishes(machine, published):
    assert run(f"{PAIR}; {machine}", SERVE, str(len(published[-1])), "", "[::]:0", ":8100", "[::]:8100") == published
