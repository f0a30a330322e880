import pytest

from zkfleet.errors import BadInput
from zkfleet.zeo.options import Settings, split


def test_options_are_parted():
    settings, theirs = split({"on_behind": "clear", "cache_size": 1, "ping_interval": None, "read_only": True})
    assert (settings.on_behind, settings.ping_interval, settings.mode) == ("clear", None, "read")
    assert theirs == {"cache_size": 1, "read_only": True}
    assert split({"read_only_fallback": True})[0].mode == "fallback"
    assert split({})[0] == Settings()


@pytest.mark.parametrize("name", ["username", "password", "realm", "credentials"])
def test_what_zeo_takes_without_heeding_it_is_refused_with_what_replaced_it(name):
    with pytest.raises(BadInput, match=f"{name} does nothing") as caught:
        split({name: "x"})
    assert "ssl=" in caught.value.hint


@pytest.mark.parametrize("name", ["max_disconnect_poll", "min_disconnect_poll", "drop_cache_rather_verify"])
def test_what_old_callers_give_is_taken_with_a_warning(name):
    with pytest.warns(DeprecationWarning, match=name):
        assert split({name: 1, "cache_size": 2})[1] == {"cache_size": 2}


def test_the_old_name_of_wait_works():
    with pytest.warns(DeprecationWarning, match="called wait"):
        assert split({"wait_for_server_on_startup": False})[1] == {"wait": False}


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"wait_timout": 1}, "wait_timout"),
        ({"addr": ("h", 1)}, "addr"),
        ({"mode": "read"}, "mode"),
        ({"read_only": True, "read_only_fallback": True}, "exclude"),
        ({"on_behind": "hope"}, "on_behind"),
        ({"on_delisted": True}, "on_delisted"),
        ({"ping_interval": 0}, "ping_interval"),
        ({"ping_timeout": "5"}, "ping_timeout"),
        ({"leave_after": float("inf")}, "leave_after"),
        ({"prefer": "zone"}, "preference"),
    ],
)
def test_what_cannot_be_is_refused(options, word):
    with pytest.raises(BadInput, match=word):
        split(options)


def test_a_mistyped_option_is_told_its_name():
    with pytest.raises(BadInput) as caught:
        split({"on_delist": "stay"})
    assert caught.value.hint == "is it on_delisted?"
    with pytest.raises(BadInput) as caught:
        split({"xyz": 1})
    assert "prefer" in caught.value.hint
    assert "max_disconnect_poll" not in caught.value.hint


def test_a_database_is_told_by_its_identity():
    with pytest.raises(BadInput, match="32 hexadecimal digits"):
        split({"database": "main"})
