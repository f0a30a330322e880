import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from click.testing import CliRunner
from kazoo.security import make_digest_acl

from tests.conftest import wait_for
from zkfleet.cli import main
from zkfleet.cli.run import DEREGISTER_WITHIN
from zkfleet.testing import Proxy
from zkfleet.testing.zookeeper import four_letters, free_port

TREE = "/svc : http\n  threads = 3\n  /providers\n/lb\n  providers -> /svc/providers\n"
ZKFLEET = [sys.executable, "-c", "from zkfleet.cli import main; main()"]


@pytest.fixture
def zkfleet(hosts):
    def run(*arguments, code=0, text=None):
        done = CliRunner(env={"ZKFLEET_ZOOKEEPER": hosts}).invoke(main, arguments, input=text)
        assert done.exit_code == code, done.output
        return done

    return run


@pytest.fixture
def tree(zkfleet):
    zkfleet("tree", "import", "-", text=TREE)
    return zkfleet


def test_a_tree_is_imported_exported_and_found_in_order(tree):
    assert tree("tree", "export").stdout == (
        "/lb\n  providers -> /svc/providers\n/svc : http\n  threads = 3\n  /providers\n"
    )
    assert tree("tree", "plan", "-", "--check", text=TREE).stdout == "nothing to change\n"


def test_changes_that_wait_give_exit_code_10(tree):
    done = tree("tree", "plan", "-", "--check", code=10, text="/svc : http\n  threads = 4\n")
    assert "+ threads = 4" in done.stdout
    assert "/svc/providers is left over" in done.stdout


def test_a_saved_plan_is_applied_and_undone(tree, tmp_path):
    plan = str(tmp_path / "plan.json")
    tree("tree", "plan", "-", "--trim", "--save", plan, text="/svc\n  threads = 4\n")
    tree("tree", "apply", plan)
    assert tree("tree", "export", "/svc").stdout == "/svc\n  threads = 4\n"
    tree("tree", "apply", plan, "--inverse")
    assert tree("tree", "export", "/svc").stdout == "/svc : http\n  threads = 3\n  /providers\n"
    done = tree("tree", "apply", plan, code=1)
    assert "changed since" in done.stderr


def test_a_dry_run_changes_nothing(zkfleet):
    assert "+ /svc" in zkfleet("tree", "import", "-n", "-", text=TREE).stdout
    assert zkfleet("tree", "export").stdout == ""


def test_a_bad_tree_is_refused_with_every_problem(zkfleet):
    done = zkfleet("tree", "import", "-", code=1, text="x = 1\n/a\n\ty = set()\n")
    assert "<stdin>:1:1:" in done.stderr
    assert "<stdin>:3:1: tabs are not indentation" in done.stderr
    assert zkfleet("tree", "export").stdout == ""


def test_files_are_validated_without_a_server(tmp_path):
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_text(TREE)
    bad.write_text("/a\n  x -> nothing\n")
    assert CliRunner().invoke(main, ["tree", "validate", str(good)]).exit_code == 0
    done = CliRunner().invoke(main, ["tree", "validate", "--format", "json", str(good), str(bad)])
    assert done.exit_code == 1
    assert [(row["line"], row["column"]) for row in json.loads(done.stdout)] == [(2, 3)]


def test_a_graph_is_drawn(tmp_path):
    file = tmp_path / "tree"
    file.write_text(TREE)
    assert '"/lb" -> "/svc/providers"' in CliRunner().invoke(main, ["tree", "graph", str(file)]).stdout


def test_a_path_in_the_ensemble_is_drawn_with_all_its_links(tree):
    tree("ln", "/svc", "/top")
    drawn = tree("tree", "graph", "--as", "mermaid", "/").stdout
    assert '["/svc<br/>http"]' in drawn
    assert '|"top"|' in drawn


def test_a_tree_of_many_levels_is_shown(tree, hosts, kazoo):
    kazoo.ensure_path("/deep" + "/x" * 600)
    assert tree("show", "/deep").stdout.count("/x") == 600
    # Up to Python 3.11 this is too deep for its JSON.
    done = CliRunner().invoke(main, ["show", "/deep", "--format", "json", "-z", hosts])
    assert done.stdout.count('"x"') == 600 or "nested too deeply" in done.stderr


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1"])
def test_what_is_no_number_of_seconds_is_refused(tree, seconds):
    tree("addresses", "/svc/providers", "--wait", seconds, code=2)


def test_properties_are_got_and_set(tree):
    tree("set", "/svc", "threads=5", "comment='a b'")
    assert tree("get", "/svc").stdout == "comment = 'a b'\nthreads = 5\ntype = 'http'\n"
    assert tree("get", "/svc", "threads", "--format", "json").stdout == "5\n"
    assert "no property 'x'" in tree("get", "/svc", "x", code=1).stderr


@pytest.mark.parametrize(
    "assignment", ["threads", "=5", "threads=five", "threads={1}", "x=__import__('os')", "threads=1 threads=2"]
)
def test_what_is_no_literal_is_refused_with_a_hint(tree, assignment):
    assert "hint:" in tree("set", "/svc", *assignment.split(" "), code=1).stderr


@pytest.mark.parametrize("value", ["1; import os", "a b", "five", "x()"])
def test_what_is_no_value_alone_is_told_what_is(tree, value):
    assert "and nothing else; text needs quotes" in tree("set", "/svc", f"a={value}", code=1).stderr


def test_a_path_above_the_services_is_no_service(tree, kazoo):
    said = tree("addresses", "/", code=1).stderr
    assert said == ("error: / has no servers below it, but lb, svc\nhint: name the path of one service, such as /lb\n")
    kazoo.create("/svc/providers/10.0.0.1:80", b"{}")
    kazoo.create("/svc/providers/odd", b"{}")
    assert tree("addresses", "/svc/providers").stdout == "10.0.0.1:80\n"


def test_a_link_that_leads_nowhere_is_told(tree):
    assert (
        tree("ln", "/nope", "/lb/x").stderr
        == "warning: the link leads nowhere: no such znode: /lb/x (there is no /nope)\n"
    )
    assert "warning: the link leads nowhere: no such znode: /lb/nope" in tree("ln", "/nope", "/lb/").stderr
    assert tree("ln", "/svc", "/lb/y").stderr == ""
    assert tree("ln", "/svc", "/lb/").stderr == ""


def test_a_property_with_the_name_of_a_link_is_told(tree):
    assert "warning: /lb also has the node link providers ->" in tree("set", "/lb", "providers=1").stderr
    assert tree("set", "/lb", "other=1").stderr == ""


@pytest.mark.parametrize(("option", "value"), [("--auth", "foo"), ("--auth", ":foo"), ("--sasl", "foo")])
def test_credentials_of_another_form_are_told_as_options(tree, option, value):
    said = tree("show", "/", option, value, code=1).stderr
    assert said == f"error: {option} is not USER:PASSWORD\nhint: write {option} user:password\n"


def test_sasl_that_nobody_answers_is_named(tree):
    said = tree("show", "/", "--sasl", "a:b", "--timeout", "1", code=1).stderr
    assert "hint: is SASL configured there?" in said


def test_addresses_are_listed_one_a_line(tree, kazoo):
    assert "nobody provided" in tree("addresses", "/lb/providers", "--wait", "0.05", code=1).stderr
    kazoo.create("/svc/providers/10.0.0.1:80", b'{"pid":1}')
    assert tree("addresses", "/lb/providers").stdout == "10.0.0.1:80\n"
    assert json.loads(tree("addresses", "/lb/providers", "--format", "json").stdout) == {"10.0.0.1:80": {"pid": 1}}


def test_links_are_made_and_nodes_removed(tree):
    tree("ln", "/svc", "/lb/service")
    assert tree("get", "/lb/service", "threads").stdout == "3\n"
    assert "-r" in tree("rm", "/svc", code=1).stderr
    assert tree("rm", "-r", "/svc").stdout == "- /svc/providers\n- /svc\n"
    assert "dangling link" in tree("doctor", code=1).stdout


def test_the_live_tree_is_shown(tree, kazoo):
    kazoo.create("/svc/providers/10.0.0.1:80", b'{"pid":1}', ephemeral=True)
    assert "/10.0.0.1:80\n      pid = 1\n" in tree("show").stdout


@pytest.mark.slow
@pytest.mark.parametrize("command", [["show", "/svc"], ["addresses", "/lb/providers"]])
def test_watching_prints_what_happens_until_it_is_interrupted(tree, hosts, kazoo, command):
    line = [*ZKFLEET, *command, "--watch", "-z", hosts]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, bufsize=1) as watching:
        assert watching.stdout.readline() in ("/svc : http\n", "\n")
        kazoo.create("/svc/providers/10.0.0.1:80", b'{"pid":1}', ephemeral=True)
        for _ in range(20):
            if "10.0.0.1:80" in watching.stdout.readline():
                break
        else:
            raise AssertionError("the provider was not shown")
        watching.send_signal(signal.SIGINT)
        assert watching.wait(10) == 0


def test_answers_can_be_had_as_json(tree):
    service = {
        "properties": {"threads": 3, "type": "http"},
        "children": {"providers": {"properties": {}, "children": {}}},
    }
    assert json.loads(tree("show", "/svc", "--format", "json").stdout) == service
    assert json.loads(tree("tree", "export", "/svc", "--format", "json").stdout)["children"] == {"svc": service}
    assert json.loads(tree("rm", "-rn", "/svc", "--format", "json").stdout) == {
        "deleted": ["/svc/providers", "/svc"],
        "held": {},
    }
    assert json.loads(tree("tree", "plan", "-", "--format", "json", text="/svc : http\n").stdout)


def test_no_zookeeper_is_an_error_with_a_hint_and_no_traceback():
    done = CliRunner().invoke(main, ["show", "-z", f"127.0.0.1:{free_port()}", "--timeout", "0.3"])
    assert done.exit_code == 1
    assert "no ZooKeeper answered" in done.stderr
    assert "hint:" in done.stderr
    assert "Traceback" not in done.output


@pytest.mark.parametrize("arguments", [["show", "-z", "a:b"], ["show", "--auth", "x"], ["tree", "import", "/no/file"]])
def test_bad_arguments_are_errors_without_a_traceback(arguments):
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 1
    assert done.stderr.startswith("error: ")


def test_links_are_removed_and_those_behind_a_node_are_told(tree):
    assert "hides the link" in tree("ln", "/svc", "/lb").stderr
    assert "loop" in tree("ln", "/lb/x", "/lb/x", code=1).stderr
    assert tree("rm", "/lb/providers").stdout == "- /lb/providers, a link\n"
    assert tree("show", "/lb").stdout == "/lb\n"
    assert "no such znode" in tree("rm", "/lb/providers", code=1).stderr


def test_what_stands_in_the_top_node_is_shown_and_exported(tree):
    tree("set", "/", "x=1")
    tree("ln", "/svc", "/s")
    for text in (tree("show").stdout, tree("tree", "export").stdout):
        assert text.startswith("# x = 1\n# s -> /svc\n/lb\n")


@pytest.mark.parametrize("data", [b"\xff\xfe", b"some text"])
def test_data_that_are_no_properties_are_not_mixed_with_some(tree, kazoo, data):
    kazoo.create("/raw", data)
    assert "replaces them as a whole" in tree("set", "/raw", "x=1", code=1).stderr
    assert kazoo.get("/raw")[0] == data


def test_the_nodes_of_zookeeper_itself_are_left_alone(tree, zookeeper):
    assert "belongs to ZooKeeper" in tree("set", "/zookeeper", "x=1", "-z", zookeeper.hosts, code=1).stderr


def test_nodes_that_may_not_be_read_are_named(tree, kazoo):
    kazoo.create("/secret", b"", acl=[make_digest_acl("u", "p", all=True)])
    assert "no read permission: /secret" in tree("show").stderr


@pytest.mark.parametrize("text", ["{}", "null", "[]", "5", '{"format": "zkfleet plan 1"}', "no json"])
def test_what_is_no_saved_plan_is_refused(tree, text):
    assert "hint: `zkfleet tree plan --save" in tree("tree", "apply", "-", text=text, code=1).stderr


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--watch"]])
def test_a_reader_that_has_seen_enough_is_no_error(tree, hosts, kazoo, options):
    line = [*ZKFLEET, "show", *options, "-z", hosts]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as showing:
        if options:
            showing.stdout.readline()
        showing.stdout.close()
        if options:
            kazoo.create("/more")
        assert showing.stderr.read() == ""
        assert showing.wait(10) == 0


def test_a_path_that_is_none_is_refused_before_the_server_starts():
    done = CliRunner().invoke(main, ["run", "svc", "--address", "127.0.0.1:1", "--", "true"])
    assert (done.exit_code, done.stderr.count("not an absolute path")) == (1, 1)


def test_a_port_of_somebody_else_is_not_registered(tree, zookeeper):
    done = tree("run", "/svc/providers", "--address", zookeeper.hosts, "--", "sleep", "9", code=1)
    assert "somebody listens there already" in done.stderr


@pytest.mark.slow
def test_a_service_that_is_not_there_is_told(tree, hosts):
    port = free_port()
    serve = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    line = [*ZKFLEET, "run", "/none/x", "-z", hosts, "--address", f"127.0.0.1:{port}", "--", *serve]
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as run:
        assert any("not registered yet: no such znode: /none" in said for said in run.stderr)
        assert run.stderr.readline().startswith("hint: `zkfleet tree import` makes the nodes")
        run.send_signal(signal.SIGTERM)
        assert run.wait(10) == 128 + signal.SIGTERM


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--property", "pid=5"], "zkfleet's own"),
        (["--property", "x=1", "--property", "x=2"], "a second time"),
        (["--auth", "nocolon"], "not USER:PASSWORD"),
        (["--tls-ca", "/no/such/file"], "no such file"),
        (["-z", "a:b"], "no port"),
    ],
)
def test_options_that_can_never_work_are_refused_before_the_server_starts(tmp_path, options, said):
    mark = tmp_path / "started"
    command = ["run", "/svc", "--address", "127.0.0.1:1", *options, "--", "touch", str(mark)]
    done = CliRunner().invoke(main, command)
    assert (done.exit_code, mark.exists()) == (1, False)
    assert said in done.stderr


# Says when it is told to stop, and what its provider's address was then.
STUBBORN = """
import signal, socket, sys, time
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
def told(number, frame):
    print(signal.Signals(number).name, flush=True)
for name in (signal.SIGTERM, signal.SIGINT):
    signal.signal(name, told)
print("serving", flush=True)
while True:
    listener.accept()[0].close()
"""


@pytest.fixture
def stubborn(tree, zookeeper, kazoo, hosts):
    """A server under `zkfleet run` that is told to stop and does not; registered, on a ZooKeeper behind a relay."""
    port = free_port()
    with Proxy(zookeeper.port) as relay:
        through = relay.hosts + hosts[hosts.index("/") :]
        line = [*ZKFLEET, "run", "/svc/providers", "-z", through, "--address", f"127.0.0.1:{port}", "--"]
        run = subprocess.Popen(
            [*line, sys.executable, "-c", STUBBORN, str(port)], stdout=subprocess.PIPE, text=True, process_group=0
        )
        server = None
        try:
            assert run.stdout.readline() == "serving\n"
            wait_for(lambda: kazoo.get_children("/svc/providers"))
            server = psutil.Process(run.pid).children()[0]
            yield run, server, relay
        finally:
            relay.heal()
            if server is not None:
                server.kill()
            assert run.wait(20) == 128 + signal.SIGKILL
            run.stdout.close()


@pytest.mark.slow
def test_a_terminal_s_interrupt_comes_to_the_server_once_and_after_its_address_is_gone(stubborn, kazoo):
    run, server, _ = stubborn
    assert os.getpgid(server.pid) != os.getpgid(run.pid)
    os.killpg(run.pid, signal.SIGINT)
    assert run.stdout.readline() == "SIGINT\n"
    assert kazoo.get_children("/svc/providers") == []
    os.kill(run.pid, signal.SIGTERM)
    assert run.stdout.readline() == "SIGTERM\n"


@pytest.mark.slow
@pytest.mark.faults
def test_a_silent_zookeeper_does_not_keep_the_server_from_being_told(stubborn):
    run, _, relay = stubborn
    relay.black_hole()
    begun = time.monotonic()
    run.send_signal(signal.SIGTERM)
    assert run.stdout.readline() == "SIGTERM\n"
    assert time.monotonic() - begun < 8


BACKGROUND = """
import os, signal, socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
if child := os.fork():
    open(sys.argv[2], "w").write(str(child))
    os._exit(0)
signal.pause()
"""


@pytest.mark.slow
def test_a_server_that_goes_into_the_background_is_told_of(tree, kazoo, tmp_path):
    port, pid = free_port(), tmp_path / "pid"
    command = [sys.executable, "-c", BACKGROUND, str(port), str(pid)]
    done = tree("run", "/svc/providers", "--address", f"127.0.0.1:{port}", "--", *command, code=1)
    os.kill(int(pid.read_text()), signal.SIGKILL)
    assert f"something takes connections at 127.0.0.1:{port} still" in done.stderr
    assert "hint: run the server in the foreground" in done.stderr
    assert kazoo.get_children("/svc/providers") == []


@pytest.mark.slow
def test_a_place_where_nobody_may_register_costs_no_session_a_second(tree, hosts, zookeeper):
    port = free_port()
    serve = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    line = [*ZKFLEET, "run", "/zookeeper", "-z", hosts, "--address", f"127.0.0.1:{port}", "--", *serve]
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as run:
        assert any("belongs to ZooKeeper" in said for said in run.stderr)
        threads = psutil.Process(run.pid).num_threads
        few = threads()
        wait_for(lambda: four_letters(zookeeper.port, "cons").count("sid=") <= 4)
        assert threads() <= few + 4
        run.send_signal(signal.SIGTERM)
        assert run.wait(10) == 128 + signal.SIGTERM


@pytest.mark.slow
@pytest.mark.faults
def test_a_second_signal_does_not_wait_for_a_silent_zookeeper(stubborn):
    run, _, relay = stubborn
    relay.black_hole()
    begun = time.monotonic()
    run.send_signal(signal.SIGTERM)
    run.send_signal(signal.SIGINT)
    assert run.stdout.readline() in ("SIGINT\n", "SIGTERM\n")
    assert time.monotonic() - begun < DEREGISTER_WITHIN


def test_port_0_is_refused():
    done = CliRunner().invoke(main, ["run", "/svc", "--address", "127.0.0.1:0", "--", "true"])
    assert "port 0 is not possible here" in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_can_complete(shell):
    if shell == "bash":
        assert subprocess.run(["bash", "--version"], capture_output=True, check=True)
    assert "_ZKFLEET_COMPLETE" in CliRunner().invoke(main, ["completion", shell]).stdout


@pytest.mark.parametrize(
    ("words", "offered"),
    [("zkfleet add", "addresses"), ("zkfleet tree im", "import"), ("zkfleet tree graph --as mer", "mermaid")],
)
def test_commands_and_options_are_completed(words, offered):
    environment = {"_ZKFLEET_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = CliRunner().invoke(main, [], prog_name="zkfleet", env=environment)
    assert f"plain,{offered}\n" in done.output


@pytest.mark.slow
def test_a_server_is_registered_while_it_serves(tree, hosts, kazoo):
    port = free_port()
    serve = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    options = ["-z", hosts, "--address", f"127.0.0.1:{port}", "--property", "weight=3"]
    with subprocess.Popen([*ZKFLEET, "run", "/lb/providers", *options, "--", *serve], stderr=subprocess.DEVNULL) as run:
        wait_for(lambda: kazoo.get_children("/svc/providers") == [f"127.0.0.1:{port}"])
        assert json.loads(kazoo.get(f"/svc/providers/127.0.0.1:{port}")[0])["weight"] == 3
        run.send_signal(signal.SIGTERM)
        assert run.wait(10) == 128 + signal.SIGTERM
    assert kazoo.get_children("/svc/providers") == []


@pytest.mark.slow
@pytest.mark.parametrize(("script", "code"), [("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", 137)])
def test_the_exit_code_is_the_server_s(tree, hosts, script, code):
    options = ["-z", hosts, "--address", f"127.0.0.1:{free_port()}"]
    command = [*ZKFLEET, "run", "/lb/providers", *options, "--", sys.executable, "-c", script]
    assert subprocess.run(command, timeout=20, check=False).returncode == code


@pytest.mark.slow
def test_a_port_that_stays_silent_is_an_error(tree, hosts):
    options = ["-z", hosts, "--address", f"127.0.0.1:{free_port()}", "--wait-port", "0.2"]
    command = [*ZKFLEET, "run", "/lb/providers", *options, "--", "sleep", "30"]
    done = subprocess.run(command, timeout=20, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "nothing listens" in done.stderr
