import pytest

from zkfleet.cli.launcher import Deregister, Exit, Launcher, Pass, Phase, Register, TellOfBackground


def test_a_server_is_registered_when_its_port_answers():
    launcher = Launcher()
    assert launcher.port_answers() == [Register()]
    assert launcher.phase is Phase.SERVING


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_it_is_deregistered_before_it_is_told_to_stop(name):
    launcher = Launcher()
    launcher.port_answers()
    assert launcher.signalled(name) == [Deregister()]
    assert launcher.deregistered() == [Pass(name)]
    assert launcher.signalled(name) == [Pass(name)]
    assert launcher.child_ended(0) == [Exit(0)]


def test_a_second_signal_does_not_wait_for_the_registry():
    launcher = Launcher()
    launcher.port_answers()
    launcher.signalled("SIGTERM")
    assert launcher.signalled("SIGINT") == [Pass("SIGINT")]
    assert launcher.deregistered() == []


def test_a_server_that_ends_while_it_is_deregistered_is_told_nothing():
    launcher = Launcher()
    launcher.port_answers()
    launcher.signalled("SIGTERM")
    assert launcher.child_ended(0) == [Exit(0)]
    assert launcher.deregistered() == []


def test_other_signals_are_passed_on_and_change_nothing():
    launcher = Launcher()
    launcher.port_answers()
    assert launcher.signalled("SIGHUP") == [Pass("SIGHUP")]
    assert launcher.phase is Phase.SERVING


@pytest.mark.parametrize(("code", "shown"), [(0, 0), (3, 3), (-9, 137), (-15, 143)])
def test_the_code_is_the_server_s_own(code, shown):
    launcher = Launcher()
    launcher.port_answers()
    assert launcher.child_ended(code) == [Exit(shown)]


def test_a_server_that_ends_before_it_serves_is_never_registered():
    launcher = Launcher()
    assert launcher.child_ended(1) == [Exit(1)]
    assert launcher.port_answers() == []


def test_a_server_that_goes_into_the_background_is_a_failure_unless_it_was_told_to_stop():
    launcher = Launcher()
    assert launcher.child_ended(0, serves_still=True) == [TellOfBackground(), Exit(1)]
    launcher = Launcher()
    launcher.port_answers()
    assert launcher.child_ended(0, serves_still=True) == [TellOfBackground(), Exit(1)]
    launcher = Launcher()
    launcher.port_answers()
    launcher.signalled("SIGTERM")
    launcher.deregistered()
    assert launcher.child_ended(0, serves_still=True) == [Exit(0)]  # another one serves at that port


def test_a_port_that_stays_silent_ends_the_server_as_a_failure():
    launcher = Launcher()
    assert launcher.port_is_silent() == [Pass("SIGTERM")]
    assert launcher.port_answers() == []
    assert launcher.child_ended(0) == [Exit(1)]


def test_a_stop_while_it_starts_is_not_followed_by_a_registration():
    launcher = Launcher()
    assert launcher.signalled("SIGTERM") == [Pass("SIGTERM")]
    assert launcher.port_answers() == []
