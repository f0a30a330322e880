"""Persistent objects for tests, which databases can load by the name of this module."""

import functools

from persistent import Persistent


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
