import threading
import urllib.request

import prometheus_client
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import wait_for
from tests.zeo.making import Attempt
from zkfleet.errors import BadInput
from zkfleet.monitor import COMMANDS, Column, Kind, Limits, fields, lines, table
from zkfleet.monitor.families import families, is_told
from zkfleet.monitor.metrics import Collector
from zkfleet.monitor.running import Running

QUEUES = [
    Column("queue", "Which one.", kind=Kind.LABEL),
    Column("waiting", "Jobs that nobody has begun.", kind=Kind.GAUGE),
    Column("age", "Of the oldest.", "seconds", Kind.GAUGE),
    Column("done", "Jobs that were done.", kind=Kind.COUNTER),
    Column("size", "What was taken in.", "bytes", Kind.COUNTER),
    Column("note", "A remark."),
]
ROW = {"queue": "mail", "waiting": 3, "age": 1.5, "done": 7, "size": 100, "note": "x"}


@pytest.fixture
def queues(commands):
    """What a command tells; a test changes it."""
    rows = [dict(ROW)]
    commands.command("queues", columns=QUEUES)(lambda: table(QUEUES, rows))
    return rows


@pytest.fixture
def scrape(start):
    """Asks a monitor for its metrics, the same one every time."""
    started = []

    def once(**limits):
        if not started:
            started.append(start(http=0, limits=Limits(**limits)))
        with urllib.request.urlopen(f"http://{started[0].http.address}/metrics", timeout=10) as response:
            assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            return found_in(response.read().decode())

    return once


def found_in(text):
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_numbers_are_named_after_their_command_and_column_with_the_unit(queues, scrape):
    found = scrape()
    assert {name[0]: value for name, value in found.items() if "mail" in name} == {
        "zkfleet_queues_waiting": 3,
        "zkfleet_queues_age_seconds": 1.5,
        "zkfleet_queues_done_total": 7,
        "zkfleet_queues_size_bytes_total": 100,
    }
    assert found["zkfleet_command_answered", "queues"] == found["zkfleet_command_ok", "queues"] == 1
    assert 0 <= found["zkfleet_command_duration_seconds", "queues"] < 10


def test_help_and_kind_are_those_of_the_column(queues, commands):
    told = {one.name: one for one in families(commands.get("queues"))}
    assert (told["zkfleet_queues_done"].type, told["zkfleet_queues_done"].documentation) == (
        "counter",
        "Jobs that were done.",
    )
    assert told["zkfleet_queues_age_seconds"].type == "gauge"


@pytest.mark.parametrize("odd", [None, "words", float("nan"), [1]])
def test_what_is_no_number_is_left_out(queues, scrape, odd):
    queues[0]["waiting"] = odd
    found = scrape()
    assert ("zkfleet_queues_waiting", "mail") not in found
    assert found["zkfleet_queues_done_total", "mail"] == 7


def test_odd_labels_come_through(queues, scrape):
    for odd in ['a "quoted" \\ one', "two\nlines", "schön", ""]:
        queues[0]["queue"] = odd
        assert scrape()["zkfleet_queues_waiting", odd] == 3


def test_what_needs_arguments_changes_something_costs_or_has_no_numbers_is_not_asked(commands):
    options = {"columns": QUEUES}
    commands.command("needs", **options)(lambda word: "")
    commands.command("acts", action=True, **options)(lambda: "")
    commands.command("costs", metrics=False, **options)(lambda: "")
    commands.command("words", columns=[QUEUES[0]])(lambda: "")
    assert not [command.name for command in commands if is_told(command)]


def test_what_is_not_well_is_told(commands, scrape):
    commands.command("queues", columns=QUEUES)(lambda: table(QUEUES, [ROW], ok=False))
    found = scrape()
    assert (found["zkfleet_command_answered", "queues"], found["zkfleet_command_ok", "queues"]) == (1, 0)


@pytest.mark.parametrize("fault", [lambda: 1 / 0, lambda: exit(1), lambda: table(QUEUES, [ROW, ROW])])
def test_a_command_that_fails_spoils_nothing(queues, commands, scrape, fault):
    commands.command("broken", columns=QUEUES)(fault)
    for _ in range(2):
        found = scrape()
        assert found["zkfleet_command_answered", "broken"] == 0
        assert found["zkfleet_queues_waiting", "mail"] == 3


def test_a_command_that_is_not_for_this_process_is_no_fault(queues, commands, scrape):
    @commands.command("refused", columns=QUEUES)
    def refused():
        raise BadInput("there is no ZEO client here")

    found = scrape()
    assert not [name for name in found if "refused" in name]
    assert found["zkfleet_queues_waiting", "mail"] == 3


def test_commands_that_block_have_one_thread_each_and_spoil_nothing(queues, commands, scrape):
    released, begun = threading.Event(), []

    def stay():
        begun.append(1)
        released.wait(10)
        return table(QUEUES, [ROW])

    for number in range(12):  # more than may be under way for other clients
        commands.command(f"stay{number}", columns=QUEUES)(stay)
    for _ in range(3):
        found = scrape(deadline=0.05)
        assert found["zkfleet_queues_waiting", "mail"] == 3
        assert found["zkfleet_command_answered", "stay7"] == 0
    assert len(begun) == 12
    released.set()
    wait_for(lambda: scrape()["zkfleet_command_answered", "stay7"] == 1)


@pytest.mark.slow
def test_what_hangs_is_waited_for_once_and_not_at_every_scrape(queues, commands):
    released = threading.Event()
    commands.command("stay", columns=QUEUES)(lambda: released.wait(30))
    collector = Collector(Running(commands, Limits(deadline=0.5)))
    scrapes = Attempt(lambda: [list(collector.collect()) for _ in range(60)])
    assert len(scrapes.outcome(15) or ()) == 60
    released.set()


def test_two_that_scrape_at_once_ask_a_command_once(queues, commands):
    released, begun = threading.Event(), []

    def stay():
        begun.append(1)
        released.wait(10)
        return table(QUEUES, [ROW])

    commands.command("stay", columns=QUEUES)(stay)
    collector = Collector(Running(commands, Limits()))
    found = []
    threads = [threading.Thread(target=lambda: found.append(list(collector.collect()))) for _ in range(2)]
    for thread in threads:
        thread.start()
    wait_for(lambda: begun)
    released.set()
    for thread in threads:
        thread.join(10)
    answered = [one.samples for families in found for one in families if one.name == "zkfleet_command_answered"]
    assert len(answered) == 2
    assert all(sample.value == 1 for samples in answered for sample in samples)


def test_an_application_may_have_them_beside_its_own(queues, commands):
    registry = prometheus_client.CollectorRegistry()
    mine = prometheus_client.Counter("mine", "The application's.", registry=registry)
    mine.inc()
    registry.register(Collector(Running(commands, Limits())))
    found = found_in(prometheus_client.generate_latest(registry).decode())
    assert (found["mine_total",], found["zkfleet_queues_waiting", "mail"]) == (1, 3)


def test_to_register_them_runs_no_command(commands):
    commands.command("queues", columns=QUEUES)(lambda: pytest.fail("it was run"))
    prometheus_client.CollectorRegistry().register(Collector(Running(commands, Limits())))


def test_our_own_commands_are_told_without_a_fault():
    collector = Collector()
    names = [one.name for one in collector.describe()]
    assert len(names) == len(set(names))
    text = prometheus_client.generate_latest(collector).decode()
    found = found_in(text)
    asked = {key[1]: value for key, value in found.items() if key[0] == "zkfleet_command_answered"}
    # Those about one database, which this process does not have, have nothing to tell.
    about = {command.name for command in COMMANDS if is_told(command)} - {"dbinfo", "zeocache"}
    assert asked == dict.fromkeys(about, 1)
    assert found["zkfleet_process_rss_bytes",] > 1 << 20


def test_text_alone_is_no_metric(commands, scrape):
    commands.command("odd", columns=QUEUES)(lambda: lines("nothing to count"))
    commands.command("one", columns=QUEUES[1:])(lambda: fields(QUEUES[1:], {"waiting": 1}))
    found = scrape()
    assert found["zkfleet_command_answered", "odd"] == 1
    assert found["zkfleet_one_waiting",] == 1
