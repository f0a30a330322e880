"""What does Apache Curator do beside us?

Curator 5.4 as Debian has it, downloaded into `.cache/curator` and run by a
small program of our own.  When there is no Java that compiles, or Curator
cannot be had, that is said once and its rows are left out.
"""

import functools
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
CACHE = HERE.parent / ".cache/curator"
PACKAGES = [f"libcurator-{part}-java" for part in ("client", "framework", "recipes", "discovery")] + ["libguava-java"]
CURATOR = ("curator-client", "curator-framework", "curator-recipes", "curator-x-discovery", "guava")
NETTY = tuple(f"netty-{part}" for part in ("handler", "transport", "common", "buffer", "resolver", "codec"))
JACKSON = tuple(f"jackson-{part}" for part in ("core", "databind", "annotations"))
BESIDE = ("slf4j-api", "slf4j-nop", "zookeeper", "zookeeper-jute", "snappy-java", "metrics-core", *JACKSON, *NETTY)
FILL_ROUNDS = 25
WARM = 10


def command(*arguments: str) -> list[str] | None:
    """Return how to run our Java program, None if that is not possible here."""
    path = class_path()
    return ["java", "-cp", path, str(HERE / "Curator.java"), *arguments] if path else None


@functools.cache
def class_path() -> str | None:
    """Return Curator and all it needs, downloaded if it must be; None, and why on stderr, if not."""
    try:
        return _class_path()
    except (OSError, subprocess.CalledProcessError, LookupError) as exc:
        print(f"Curator is left out: {exc}", file=sys.stderr)
        return None


def _class_path() -> str:
    if not shutil.which("java") or not shutil.which("javac"):
        raise LookupError("there is no Java that compiles (Debian: default-jdk-headless)")
    folder = CACHE / "usr/share/java"
    if not folder.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", "-q", *PACKAGES], cwd=CACHE, check=True, capture_output=True)
        for package in CACHE.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, CACHE], check=True)
            package.unlink()
    places = (folder, Path("/usr/share/java"), HERE.parent / ".cache/zookeeper/usr/share/java")
    return ":".join(str(_jar(name, places)) for name in (*CURATOR, *BESIDE))


def _jar(name: str, places: tuple[Path, ...]) -> Path:
    for place in places:
        if (jar := place / f"{name}.jar").exists():
            return jar
    raise LookupError(f"there is no {name}.jar")


def _seconds(*arguments: str) -> list[float]:
    """Run the program and return the seconds that it printed."""
    line = command(*arguments)
    if line is None:
        return []
    done = subprocess.run(line, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return [int(nanoseconds) / 1e9 for nanoseconds in done.stdout.split()]


def fills(hosts: str, path: str) -> Iterator[tuple[str, float]]:
    """Yield how long its caches need for what is at `path`, in a Java that is warm."""
    if seconds := _seconds("fill", hosts, path, str(FILL_ROUNDS)):
        yield "Curator `CuratorCache`", statistics.median(seconds[WARM:])
    if seconds := _seconds("discover", hosts, f"{path}-curator", "1000", str(FILL_ROUNDS)):
        yield "Curator `ServiceCache`", statistics.median(seconds[1 + WARM :])


def registers(hosts: str, path: str, number: int) -> Iterator[tuple[str, float]]:
    """Yield how long it needs to register so many services, one by one: the median of three runs."""
    runs = [seconds[0] for _ in range(3) if (seconds := _seconds("discover", hosts, path, str(number), "0"))]
    if runs:
        yield "Curator `registerService`", statistics.median(runs)
