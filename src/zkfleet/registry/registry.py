"""What can I ask of the fleet's registry?

The object that users hold.  It hands every verb on: to the views and
registrations that live in the hub, to `changing`, `trees`, `walking` and
`doctor` for what is asked once.  Nothing is decided here.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from zkfleet import endpoints, paths
from zkfleet.errors import BadInput, BadPath, Closed
from zkfleet.registry import acls, advertised, changing, identity, readings, registrar, subtree, views
from zkfleet.registry.claim import Policy, Status
from zkfleet.registry.following import Following
from zkfleet.registry.life import Life
from zkfleet.registry.locks import Lock
from zkfleet.registry.registrar import Registrant
from zkfleet.registry.registration import Registering, Registration, registering

if TYPE_CHECKING:
    from zkfleet.registry.doctor import Finding
    from zkfleet.registry.trees import Progress
    from zkfleet.registry.walking import Deleted
    from zkfleet.tree import Plan

POLICIES = ("wait", "fail", "takeover")


class Registry(Life):
    """A session with the ensemble, and everything that lives on it.

    Safe to use from any thread, and from its own callbacks.  Use `connect` to
    get one; close it, or use it as a context manager.
    """

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
            advertise: what to publish instead of the host, a name, an address, an interface
                or a network such as `10.0.0.0/8`; else `$ZKFLEET_ADVERTISE`.
            wait: return when it is registered or known to be blocked; else at once.
            properties: the znode's; `pid`, `host` and `instance` are added.

        Raises:
            NodeNotFound: there is no such service.
            RegistrationConflict: somebody else's znode is there, and not `wait`,
                or a persistent one.
            Closed: another thread closed the registry meanwhile.
            BadAddress, BadAcl, BadProperties, TooLarge, AccessDenied, NotConnected.
        """
        self.check_open()
        paths.check(path)
        if on_conflict not in POLICIES:
            raise BadInput(f"on_conflict is one of {', '.join(POLICIES)}, not {on_conflict!r}")
        given = endpoints.parse_endpoint(address)
        chosen = endpoints.addresses_to_advertise(given, advertise=advertise)
        default = acls.for_registrations(self._authenticated)
        entries = acls.to_kazoo(acls.read_acl(acl, default))
        self.session.check_not_system(path)
        identity.check_not_ours(properties)
        names = tuple(dict.fromkeys(str(endpoint) for endpoint in chosen))
        ours = {**identity.about_us(), "instance": identity.new_instance()}
        said = {**ours, **properties}
        registering.notify(Registering(path, names, said))
        said |= {name: ours[name] for name in identity.OURS}
        data = registrar.encoded(path, said, self.session.safe_packet)
        made = [Registrant(self.hub, path, name, data=data, acl=entries, policy=on_conflict) for name in names]
        registration = Registration(self, path, made, said)
        advertised.look_up(chosen, given)
        self._begin_registration(registration)
        if wait:
            self._wait_for(registration)
        return registration

    def _begin_registration(self, registration: Registration) -> None:
        with self._lock:
            self.check_open()  # `close` takes out those that it finds
            self._registrations[registration] = None
        registration.begin()

    def _wait_for(self, registration: Registration) -> None:
        try:
            registration.wait_until_decided(self.timeout)
            problem = registration.problem
            if problem is not None and registration.status.value in ("pending", "failed"):
                raise problem
            if registration.status is Status.CLOSED:
                raise Closed(f"the registry was closed while {registration.path} was being registered")
        except BaseException:
            registration.begin_close()
            raise

    def forget_registration(self, registration: Registration) -> None:
        """Drop a registration that is being closed from our list."""
        self._registrations.pop(registration, None)

    # -- locks

    def lock(self, path: str, name: str, *, acl: acls.Wanted | None = None, **properties: Any) -> Lock:
        """Ask for a lock: an ephemeral znode of this name, which one session at a time has.

        Returns at once.  Whoever comes when it is taken waits, and one of those
        who wait gets it as soon as its holder's znode is gone.

        Args:
            path: the node below which it is.  While there is none the lock is
                not held: `make_node` makes one.  A path with a link fails the
                lock: who retargets the link would give it to a second holder.
            name: of the znode.
            acl: of the znode; None as for `register`.
            properties: the znode's; `pid`, `host` and `instance` are added.

        Raises:
            BadPath, BadAcl, BadProperties, TooLarge: the arguments are wrong.
        """
        self.check_open()
        paths.check(path)
        if fault := paths.name_fault(name):
            raise BadPath(f"{name!r} cannot be a lock's name: {fault}")
        self.session.check_not_system(path)
        identity.check_not_ours(properties)
        entries = acls.to_kazoo(acls.read_acl(acl, acls.for_registrations(self._authenticated)))
        said = {**identity.about_us(), "instance": identity.new_instance(), **properties}
        data = registrar.encoded(path, said, self.session.safe_packet)
        registrant = Registrant(self.hub, path, name, data=data, acl=entries, policy="wait", is_lock=True)
        lock = Lock(self, path, registrant, said)
        self._begin_registration(lock)
        return lock

    def make_node(self, path: str, *, acl: acls.Wanted | None = None) -> bool:
        """Make a persistent node if it is missing; tell whether it was.

        Args:
            path: of the node, taken as it is: links are not followed.
            acl: of a new node; None as for `register`.

        Raises:
            NodeNotFound: there is no node to make it below.
            BadPath, BadAcl, AccessDenied, NotConnected, OutcomeUnknown.
        """
        self.check_open()
        entries = acls.to_kazoo(acls.read_acl(acl, acls.for_registrations(self._authenticated)))
        return changing.make_node(self.writer, path, entries)

    # -- views

    def children(self, path: str) -> views.Children:
        """Follow the names of a node's children.

        Raises:
            NodeNotFound, LinkLoop: the path leads nowhere.
        """
        return views.Children(self, self._follow("children", path, readings.read_children))

    def providers(self, path: str) -> views.ProvidersView:
        """Follow a node's children and their properties; raises as `children`."""
        return views.ProvidersView(
            self, self._follow("providers", path, readings.read_providers, readings.reread_providers)
        )

    def properties(self, path: str, watch: bool = True) -> views.Properties:
        """Follow a node's properties, with those that property links bring.

        Args:
            path: of the node; links are followed.
            watch: False for the properties as they are now.

        Raises:
            NodeNotFound, LinkLoop: the path leads nowhere.
        """
        if watch:
            return views.Properties(self, self._follow("properties", path, readings.read_properties))
        snapshot = self.read(lambda: readings.read_properties(paths.check(path)))
        if snapshot.problem is not None:
            raise snapshot.problem
        return views.FrozenProperties(self, Following(self.hub, path, readings.read_properties), snapshot)

    def tree(self, path: str = "/") -> views.Tree:
        """Follow a node and everything below it; raises as `children`."""
        return views.Tree(self, self._follow("tree", path, subtree.follow_subtree))

    def _follow(self, kind: str, path: str, read: Any, reread: Any = None) -> Following[Any]:
        self.check_open()
        following: Following[Any] = Following(self.hub, paths.check(path), read, reread, kind)
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
        self.check_open()
        return changing.change_properties(self.writer, path, change)

    def ln(self, source: str, destination: str) -> None:
        """Make a node link at `destination` that leads to `source`.

        If the destination ends with a slash, the source's name is appended.  A
        link that is there is retargeted.  A node that is there hides the link
        until it is deleted, which is how a node is moved under its readers.

        Raises:
            LinkLoop: it would lead to itself.
        """
        self.check_open()
        changing.link(self.writer, source, destination)

    def unlink(self, path: str) -> bool:
        """Remove the node link at a path, not what it leads to; tell whether there was one."""
        self.check_open()
        return changing.unlink(self.writer, path)

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

        self.check_open()
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

        self.check_open()
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

        self.check_open()
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
