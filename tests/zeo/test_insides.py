import logging

import pytest

from zkfleet.zeo.insides import Repair, is_on, lacking, state_of


@pytest.mark.parametrize(
    ("need", "there"),
    [
        ("ZEO.asyncio.client:ClientIO", True),
        ("ZEO.asyncio.client:ClientIO.register(protocol, server_tid)", True),
        ("ZEO.asyncio.client:ClientIO.register(protocol, nothing)", False),
        ("ZEO.asyncio.client:ClientIO.nothing", False),
        ("ZEO.nothing:at_all", False),
    ],
)
def test_what_is_needed_is_looked_for(need, there):
    assert lacking(Repair("it", "", (need,))) == (() if there else (need,))


def test_a_repair_that_cannot_be_made_is_told_once(caplog):
    repair = Repair("the moon", "nights are dark", ("ZEO:moon",))
    with caplog.at_level(logging.WARNING):
        assert not is_on(repair)
        assert not is_on(repair)
    [record] = caplog.records
    assert "the moon" in record.getMessage()
    assert "nights are dark" in record.getMessage()
    assert state_of([repair]) == {"the moon": ("ZEO:moon",)}
