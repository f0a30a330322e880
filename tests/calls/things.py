"""Persistent objects for tests, which databases can load by the name of this module."""

import functools
import random

from persistent import Persistent
from ZODB.POSException import ConflictError

from zkfleet import calls


class Counter(Persistent):
    """A thing to call."""

    def __init__(self, count=0):
        self.count = count

    def add(self, number=1):
        self.count += number
        return self.count

    def fail(self, error, number=1):
        self.count += number
        raise error

    def itself(self):
        return self

    def take_from(self, other, number=1):
        other.count -= number
        return self.add(number)

    def sum_of(self, others):
        return sum(other.count for other in others)

    def run(self, function, *args):
        """Whatever a test thinks of, with the object that the call got."""
        return function(self, *args)

    def __call__(self, number):
        return self.add(number)

    tenfold = functools.partialmethod(add, 10)


class Cart(Persistent):
    """Something with a plain object in it that refers back."""

    def __init__(self, **attributes):
        self.__dict__.update(attributes)


class Mixed:
    """A callable for `Counter.run`: one in six conflicts, one fails, one lets its object escape, the others add."""

    def __init__(self):
        self._chance = random.Random(1)

    def __call__(self, counter):
        calls.after_commit(int)
        match self._chance.randrange(6):
            case 0:
                raise ConflictError
            case 1:
                raise KeyError("no")
            case 2:
                return counter
        return counter.add()
