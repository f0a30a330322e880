"""How do ZEO servers and their clients find each other, and never lose their way?

Servers register under a path, clients follow what is registered there.  What
ZEO 6 does not do right when servers come, go or fall silent is repaired here,
and this is the only room that knows ZEO's insides.

    insides                  what we expect of ZEO, and which repair is off without it
    described                what a server says of itself in its node (pure)
"""
