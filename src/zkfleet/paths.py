"""Is this a znode path, and how do paths join?

Pure text: no links are followed here (`zkfleet.tree.links` does that) and
nothing is looked up.  A path is absolute, `/` alone or without a slash at its
end; names hold no slash, no control character and are not `.` or `..`.
"""

import re
from collections.abc import Iterator

from zkfleet.errors import BadPath

# Java sees characters beyond U+FFFF as two that it refuses.
_REFUSED = re.compile("[\x00-\x1f\x7f-\x9f/\ud800-\uf8ff\ufff0-\U0010ffff]")


def name_fault(name: str) -> str | None:
    """Say what is wrong with one name in a path, or None.

    Source: ZooKeeper Programmer's Guide, "The ZooKeeper Data Model".
    """
    if not name:
        return "an empty name"
    if name in (".", ".."):
        return f"{name!r} as a name"
    found = _REFUSED.search(name)
    if found is None:
        return None
    if found[0] == "/":
        return "a slash in a name"
    if found[0] == "\0":
        return "a NUL character"
    return f"the character {found[0]!r}, which ZooKeeper refuses,"


def check(path: str) -> str:
    """Return `path` if it is an absolute znode path.

    Raises:
        BadPath: it is not; the message says where.
    """
    if not isinstance(path, str):
        raise BadPath(f"a path is text, not {type(path).__name__}: {path!r}")
    if not path.startswith("/"):
        raise BadPath(f"not an absolute path: {path!r}", hint="begin it with a slash")
    if path == "/":
        return path
    for name in path[1:].split("/"):
        if fault := name_fault(name):
            raise BadPath(
                f"{fault} in the path {path!r}",
                hint="names are separated by single slashes, with none at the end",
            )
    return path


def check_link(target: str) -> str:
    """Return `target` if a link may hold it: a path, absolute or relative, with `.` and `..`.

    Raises:
        BadPath: it may not; the message says where.
    """
    if not isinstance(target, str) or not target:
        raise BadPath(f"not a path: {target!r}", hint="write a path such as /a/b, ../b or b")
    for name in target.removeprefix("/").split("/") if target != "/" else ():
        if name not in (".", "..") and (fault := name_fault(name)):
            raise BadPath(
                f"{fault} in the path {target!r}",
                hint="names are separated by single slashes, with none at the end",
            )
    return target


def join(parent: str, name: str) -> str:
    """Return the path of the child `name` of `parent`."""
    return f"{'' if parent == '/' else parent}/{name}"


def split(path: str) -> tuple[str, str]:
    """Return the parent of `path` and its last name; `/` is its own parent, with no name."""
    parent, _, name = path.rpartition("/")
    return parent or "/", name


def normalise(path: str, base: str = "/") -> str:
    """Return an absolute path for `path`, which may be relative to `base`.

    `.` and `..` have their usual meanings; `..` at the root stays there, and
    slashes at the end or doubled count once.

    Raises:
        BadPath: a name in it cannot be one.
    """
    names: list[str] = []
    for name in (path if path.startswith("/") else f"{base}/{path}").split("/"):
        if name == "..":
            del names[-1:]
        elif name and name != ".":
            names.append(name)
    return check("/" + "/".join(names))


def ancestors(path: str) -> Iterator[str]:
    """Yield the nodes above `path`, the nearest first, `/` last."""
    while path != "/":
        path, _ = split(path)
        yield path


def within(path: str, root: str) -> bool:
    """Tell whether `path` is `root` or below it."""
    return path == root or path.startswith(root if root == "/" else root + "/")
