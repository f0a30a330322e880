"""How is a system written down, and what separates it from the one that runs?

Pure: text and values in, text and values out; nothing here knows ZooKeeper's
client.

    model    nodes, and how their properties become a znode's bytes
    acl      access control lists as text
    values   Python literals that JSON can hold; never evaluated
    parser, printer   text to nodes and back
    links    following node links and property links
    plan     what must change so that one tree becomes the other; `plan_text` shows it and keeps it
    graph    services and the links between them, as pictures
    validate all that is wrong with a text, links included; each is a `problem`
"""

from zkfleet.tree.acl import OPEN, READ_ONLY, Acl, parse_acl
from zkfleet.tree.graph import Graph, make_graph
from zkfleet.tree.model import Node, Value, decode, encode
from zkfleet.tree.parser import parse
from zkfleet.tree.plan import Plan, Seen, make_plan
from zkfleet.tree.printer import render
from zkfleet.tree.problem import Problem
from zkfleet.tree.validate import validate
from zkfleet.tree.values import parse_assignments

__all__ = [
    "OPEN",
    "READ_ONLY",
    "Acl",
    "Graph",
    "Node",
    "Plan",
    "Problem",
    "Seen",
    "Value",
    "decode",
    "encode",
    "make_graph",
    "make_plan",
    "parse",
    "parse_acl",
    "parse_assignments",
    "render",
    "validate",
]
