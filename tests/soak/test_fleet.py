from itertools import islice

from tests.soak.fleet import plan


def throws(seed, number):
    """The first faults, and what the first throw of their dice is, if each makes so many."""
    return [(rest, fault, [dice.random() for _ in range(number)][:1]) for rest, fault, dice in islice(plan(seed), 50)]


def test_a_seed_makes_the_same_faults_however_often_they_throw_dice():
    assert throws(7, 1) == throws(7, 5)
    assert throws(7, 1) != throws(8, 1)
