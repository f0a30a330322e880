"""What can I ask of the fleet's registry?

The object that users hold.  It opens a session and hands every verb on: to the
views and registrations that live in the hub, to `properties`, `trees`,
`walking` and `doctor` for what is asked once.  Nothing is decided here.
"""

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException

from zkfleet import endpoints, paths
from zkfleet.errors import BadInput, Closed, ForkedSession, WaitTimedOut
from zkfleet.registry import acls, changing, identity, readings, registrar, subtree, views
from zkfleet.registry.callbacks import Callbacks
from zkfleet.registry.claim import Policy
from zkfleet.registry.following import Following
from zkfleet.registry.hub import Hub
from zkfleet.registry.reads import Reading
from zkfleet.registry.registrar import Registering, Registrant, Registration, registering
from zkfleet.registry.session import Session, logger

if TYPE_CHECKING:
    from zkfleet.registry.doctor import Finding
    from zkfleet.registry.trees import Progress
    from zkfleet.registry.walking import Deleted
    from zkfleet.tree import Plan

T = TypeVar("T")
AfterFork = Literal["error", "reconnect"]
POLICIES = ("wait", "fail", "takeover")
AUDIT_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Statistics:
    """How a registry's session stands.

    Attributes:
        session_id: 0 if there is none.
        negotiated_timeout: seconds that the server granted.
        state: `connected`, `suspended` or `closed`.
        since: seconds since 1970.
        reconnects: connections after the first.
        expiries: sessions that were lost.
        views: that are open.
        registrations: that are open.
        watches: that we have on the server.
    """

    session_id: int
    negotiated_timeout: float
    state: str
    since: float
    reconnects: int
    expiries: int
    views: int
    registrations: int
    watches: int


class Registry:
    """A session with the ensemble, and everything that lives on it.

    Safe to use from any thread, and from its own callbacks.  Use `connect` to
    get one; close it, or use it as a context manager.
    """

    def __init__(
        self, make_client: Callable[[], KazooClient], *, owned: bool, timeout: float, after_fork: AfterFork
    ) -> None:
        self.timeout = timeout
        self._make_client, self._owned, self._after_fork = make_client, owned, after_fork
        self._lock = threading.RLock()
        self._closed = False
        self._registrations: dict[Registration, None] = {}
        self._set_up()

    def _set_up(self) -> None:
        self._pid = os.getpid()
        self._callbacks = Callbacks()
        self.hub = Hub(self._callbacks, audit=AUDIT_SECONDS)
        client = self._make_client()
        self._authenticated = bool(client.auth_data or client._connection.sasl_options)
        self.session = self.hub.session = Session(client, owned=self._owned, listener=self.hub, timeout=self.timeout)

    def open(self, *, wait: bool) -> None:
        """Connect; called once by `connect`."""
        self.hub.start()
        try:
            self.session.open(wait=wait)
        except BaseException:
            self.close()
            raise

    # -- the session

    def close(self) -> None:
        """Take our registrations out and end the session.  Twice is fine, and so is a callback."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if os.getpid() != self._pid:
            self.session.abandon()
            return
        registrations = list(self._registrations)
        for registration in registrations:
            registration.begin_close()
        for registration in registrations if self.session.client.connected else []:
            try:
                registration.close(self.timeout)
            except (WaitTimedOut, Closed) as exc:
                logger.warning("registration_left_to_the_session path=%s reason=%s", registration.path, exc)
        for registration in registrations:
            registration.give_up()
        for member in [member for member in list(self.hub.members) if isinstance(member, Following)]:
            member.close()
        try:
            self.session.close()
        except KazooException as exc:
            logger.warning("session_left_to_expire reason=%r", exc)
        self.hub.stop(self.timeout)
        self._callbacks.stop(self.timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def check_fork(self) -> None:
        """See to it that a child process does not use its parent's session.

        Raises:
            ForkedSession: it would, and was not told to reconnect.
        """
        if os.getpid() == self._pid:
            return
        if self._after_fork != "reconnect" or not self._owned:
            raise ForkedSession(
                f"this registry was opened by process {self._pid}, and this is its child {os.getpid()}",
                hint="connect again in the child, or open it with after_fork='reconnect'",
            )
        with self._lock:
            if os.getpid() != self._pid:
                self._start_anew()

    def _start_anew(self) -> None:
        followed = [member for member in self.hub.members if isinstance(member, Following)]
        self.session.abandon()
        self._registrations = {}
        self._set_up()
        self.open(wait=False)
        for following in followed:
            following.move_to(self.hub)

    def in_callback(self) -> bool:
        """Tell whether the caller runs inside one of our callbacks."""
        return self._callbacks.on_this_thread()

    def statistics(self) -> Statistics:
        """Say how the session stands."""
        hub = self.hub
        closed = self._closed or os.getpid() != self._pid
        return Statistics(
            session_id=0 if closed else self.session.session_id,
            negotiated_timeout=self.session.negotiated_timeout,
            state="closed" if closed else "connected" if hub.connected else "suspended",
            since=hub.since,
            reconnects=max(hub.epoch - 1, 0),
            expiries=len(hub.former_sessions),
            views=sum(isinstance(member, Following) for member in list(hub.members)),
            registrations=len(self._registrations),
            watches=hub.watches,
        )

    def read(self, reading: Callable[[], Reading[T]], *, timeout: float | None = None) -> T:
        """Run a reading (see `registry.reads`) and return its result."""
        self.check_fork()
        return self.session.read(reading, timeout=timeout)

    # -- registrations

    def register(
        self,
        path: str,
        address: endpoints.Address | endpoints.Endpoint,
        *,
        acl: acls.Wanted | None = None,
        on_conflict: Policy = "wait",
        advertise: str | None = None,
        wait: bool = True,
        **properties: Any,
    ) -> Registration:
        """Publish that a service is provided at an address.

        Args:
            path: the service's node; links are followed.
            address: `(host, port)`, `"host:port"`, `"[v6]:port"`, or with a
                blank or wildcard host: then every non-loopback IPv4 address of
                this machine (the loopback ones if there are no others).
            acl: of the znode; None for everybody, or with credentials ours to
                change and everybody's to read.
            on_conflict: if a living session owns a znode of that name: `wait`
                until it goes, `fail`, or `takeover`.
            advertise: what to publish instead of the host, a name, an address
                or a network such as `10.0.0.0/8`; else `$ZKFLEET_ADVERTISE`.
            wait: return when it is registered or known to be blocked; else at once.
            properties: the znode's; `pid`, `host` and `instance` are added.

        Raises:
            NodeNotFound: there is no such service.
            RegistrationConflict: somebody else's znode is there, and not `wait`,
                or a persistent one.
            BadAddress, BadAcl, BadProperties, TooLarge, AccessDenied, NotConnected.
        """
        self._check_open()
        paths.check(path)
        if on_conflict not in POLICIES:
            raise BadInput(f"on_conflict is one of {', '.join(POLICIES)}, not {on_conflict!r}")
        chosen = endpoints.addresses_to_advertise(endpoints.parse_endpoint(address), advertise=advertise)
        default = acls.for_registrations(self._authenticated)
        entries = acls.to_kazoo(acls.read_acl(acl, default))
        identity.check_not_ours(properties)
        names = tuple(dict.fromkeys(str(endpoint) for endpoint in chosen))
        said = {**identity.about_us(), "instance": identity.new_instance(), **properties}
        registering.notify(Registering(path, names, said))
        data = registrar.encoded(path, said)
        made = [Registrant(self.hub, path, name, data=data, acl=entries, policy=on_conflict) for name in names]
        registration = Registration(self, path, made, said)
        self._registrations[registration] = None
        for registrant in made:
            self.hub.post(self.hub.join, registrant)
        if wait:
            self._wait_for(registration)
        return registration

    def _wait_for(self, registration: Registration) -> None:
        try:
            registration.wait_until_decided(self.timeout)
            problem = registration.problem
            if problem is not None and registration.status.value in ("pending", "failed"):
                raise problem
        except BaseException:
            registration.begin_close()
            raise

    def forget_registration(self, registration: Registration) -> None:
        """Drop a registration that is being closed from our list."""
        self._registrations.pop(registration, None)

    # -- views

    def children(self, path: str) -> views.Children:
        """Follow the names of a node's children.

        Raises:
            NodeNotFound, LinkLoop: the path leads nowhere.
        """
        return views.Children(self, self._follow(path, readings.read_children))

    def providers(self, path: str) -> views.ProvidersView:
        """Follow a node's children and their properties; raises as `children`."""
        return views.ProvidersView(self, self._follow(path, readings.read_providers, readings.reread_providers))

    def properties(self, path: str, watch: bool = True) -> views.Properties:
        """Follow a node's properties, with those that property links bring.

        Args:
            path: of the node; links are followed.
            watch: False for the properties as they are now.

        Raises:
            NodeNotFound, LinkLoop: the path leads nowhere.
        """
        if watch:
            return views.Properties(self, self._follow(path, readings.read_properties))
        snapshot = self.read(lambda: readings.read_properties(paths.check(path)))
        if snapshot.problem is not None:
            raise snapshot.problem
        return views.FrozenProperties(self, Following(self.hub, path, readings.read_properties), snapshot)

    def tree(self, path: str = "/") -> views.Tree:
        """Follow a node and everything below it; raises as `children`."""
        return views.Tree(self, self._follow(path, subtree.follow_subtree))

    def _follow(self, path: str, read: Any, reread: Any = None) -> Following[Any]:
        self._check_open()
        following: Following[Any] = Following(self.hub, paths.check(path), read, reread)
        self.hub.post(self.hub.join, following)
        try:
            views.ready(following, self.timeout)
        except BaseException:
            following.close()
            raise
        return following

    # -- single questions and changes

    def resolve(self, path: str) -> str:
        """Return the real path of a path with links.

        Raises:
            NodeNotFound, LinkLoop: it leads nowhere.
        """
        return self.read(lambda: readings.resolve(paths.check(path))).found()

    def exists(self, path: str) -> bool:
        """Tell whether a path leads to a node, links followed."""
        return self.read(lambda: readings.resolve(paths.check(path))).problem is None

    def get_properties(self, path: str) -> dict[str, Any]:
        """Return a node's properties as they stand in it; property links are not followed."""
        snapshot = self.read(lambda: readings.read_properties(paths.check(path)))
        if snapshot.problem is not None:
            raise snapshot.problem
        return dict(snapshot.content.raw)

    def change_properties(self, path: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> tuple[str, int]:
        """Compare and set a node's properties until it worked; return its real path and the zxid."""
        self._check_open()
        return changing.change_properties(self.session, path, change)

    def ln(self, source: str, destination: str) -> None:
        """Make a node link at `destination` that leads to `source`.

        If the destination ends with a slash, the source's name is appended.  A
        link that is there is retargeted.  A node that is there hides the link
        until it is deleted, which is how a node is moved under its readers.

        Raises:
            LinkLoop: it would lead to itself.
        """
        self._check_open()
        changing.link(self.session, source, destination)

    def unlink(self, path: str) -> bool:
        """Remove the node link at a path, not what it leads to; tell whether there was one."""
        self._check_open()
        return changing.unlink(self.session, path)

    def is_ephemeral(self, path: str) -> bool:
        """Tell whether the node at a path is ephemeral; raises `NodeNotFound`."""
        from zkfleet.registry import walking

        return walking.is_ephemeral(self, path)

    def walk(self, path: str = "/", *, ephemeral: bool = True, children: bool = False) -> Iterator[Any]:
        """Iterate over the paths of a subtree, parents first, names in order.

        Args:
            path: where to begin; links are followed to it but not below it.
            ephemeral: whether to show ephemeral nodes.
            children: yield pairs of a path and the list of its children's
                names, which may be changed to prune the walk.
        """
        from zkfleet.registry import walking

        return walking.walk(self, path, ephemeral=ephemeral, children=children)

    def delete_recursive(self, path: str, *, dry_run: bool = False, force: bool = False) -> "Deleted":
        """Delete a node and all below it.

        Args:
            path: of the node, taken as it is: links are not followed.
            dry_run: only say what would be done.
            force: delete ephemeral nodes too; else these stay, with what holds them.

        Returns:
            What was deleted and what was held.
        """
        from zkfleet.registry import walking

        self._check_open()
        return walking.delete_recursive(self, path, dry_run=dry_run, force=force)

    # -- trees

    def plan_tree(
        self,
        text: str,
        path: str = "/",
        *,
        trim: bool | None = None,
        acl: acls.Wanted | None = None,
        source: str = "<tree>",
    ) -> "Plan":
        """Say what importing a tree would change; arguments as for `import_tree`."""
        from zkfleet.registry import trees

        self.check_fork()
        return trees.plan_tree(self, text, path, trim=trim, acl=acl, source=source)

    def apply_plan(self, plan: "Plan", *, progress: "Progress | None" = None) -> None:
        """Carry a plan out.

        Args:
            plan: from `plan_tree`, or one that was saved.
            progress: called with the steps that are done and all of them.

        Raises:
            StalePlan: the tree moved since; what was not applied is unchanged.
        """
        from zkfleet.registry import trees

        self._check_open()
        trees.apply_plan(self, plan, progress=progress)

    def import_tree(
        self,
        text: str,
        path: str = "/",
        *,
        trim: bool | None = None,
        acl: acls.Wanted | None = None,
        dry_run: bool = False,
        source: str = "<tree>",
        progress: "Progress | None" = None,
    ) -> "Plan":
        """Make the nodes below a path be as a text says.

        Args:
            text: the tree, in the format of docs/tree-format.md.
            path: the node at which to put its top-level nodes.
            trim: nodes that the text leaves out: None reports them, True
                deletes them, False keeps them without a word.
            acl: for all nodes; None for everybody's on new ones, and no change of others.
            dry_run: only make the plan.
            source: the text's name, for messages.
            progress: as for `apply_plan`.

        Returns:
            The plan, applied unless `dry_run`.

        Raises:
            TreeErrors: the text has faults; nothing was changed.
            NodeNotFound: there is no such path.
            StalePlan: somebody else changed the tree meanwhile.
        """
        from zkfleet.registry import trees

        self._check_open()
        plan = trees.plan_tree(self, text, path, trim=trim, acl=acl, source=source)
        if not dry_run:
            trees.apply_plan(self, plan, progress=progress)
        return plan

    def export_tree(
        self,
        path: str = "/",
        *,
        ephemeral: bool = False,
        name: str | None = None,
        progress: "Progress | None" = None,
    ) -> str:
        """Return the text of a subtree; `/zookeeper` is left out.

        Args:
            path: where to begin; links are followed.
            ephemeral: whether to include ephemeral nodes.
            name: for the top node instead of its own.
            progress: called with the nodes that were read and those known of.
        """
        from zkfleet.registry import trees

        return trees.export_tree(self, path, ephemeral=ephemeral, name=name, progress=progress)

    def doctor(self, path: str = "/") -> "list[Finding]":
        """Look for what is wrong below a path; see docs/doctor.md for the findings."""
        from zkfleet.registry import doctor

        return doctor.examine(self, path)

    def _check_open(self) -> None:
        self.check_fork()
        if self._closed:
            raise Closed("this registry is closed", hint="open another with zkfleet.connect()")

    def __repr__(self) -> str:
        return f"<Registry {self.session.hosts}: {self.statistics().state}>"
