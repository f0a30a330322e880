import asyncio
import threading

import pytest

from tests.conftest import wait_for
from zkfleet.errors import Closed, ConnectFailed, NodeNotFound, WaitTimedOut
from zkfleet.registry import aio
from zkfleet.testing.zookeeper import free_port

TREE = "/svc\n  threads = 3\n  /providers\n"


def run(hosts, story):
    async def main():
        async with await aio.connect(hosts) as registry:
            await registry.import_tree(TREE)
            return await story(registry)

    return asyncio.run(main())


def test_the_verbs_are_awaited(hosts):
    async def story(registry):
        await registry.ln("/svc", "/link")
        assert await registry.resolve("/link/providers") == "/svc/providers"
        assert await registry.exists("/svc")
        assert await registry.get_properties("/svc") == {"threads": 3}
        assert [path async for path in registry.walk("/svc")] == ["/svc", "/svc/providers"]
        assert (await registry.plan_tree(TREE)).changes is False
        assert await registry.doctor() == []
        assert registry.statistics().state == "connected"
        with pytest.raises(NodeNotFound):
            await registry.get_properties("/none")
        with pytest.raises(AttributeError):
            registry.no_such_verb  # noqa: B018

    run(hosts, story)


def test_views_are_iterators_of_snapshots(hosts, kazoo):
    async def story(registry):
        seen = []
        async with await registry.providers("/svc/providers") as view:
            async for snapshot in view:
                seen.append(sorted(snapshot.content))
                if not seen[-1]:
                    await registry.register("/svc/providers", "10.0.0.1:80")
                else:
                    break
        return seen

    assert run(hosts, story) == [[], ["10.0.0.1:80"]]


def test_a_slow_consumer_gets_the_last_state(hosts, kazoo):
    async def story(registry):
        view = await registry.children("/svc/providers")
        snapshots = aiter(view)
        assert (await anext(snapshots)).content == ()
        for number in range(10):
            await asyncio.to_thread(kazoo.create, f"/svc/providers/{number}")
        await view.wait_until(lambda children: len(children) == 10)
        assert len((await anext(snapshots)).content) == 10

    run(hosts, story)


@pytest.mark.parametrize("what", ["view", "registry"])
def test_closing_on_a_thread_ends_iterations_too(hosts, what):
    async def story(registry):
        view = await registry.children("/svc/providers")
        consumer = asyncio.create_task(collect(view))
        await asyncio.sleep(0)
        await asyncio.to_thread(view.view.close if what == "view" else registry.registry.close)
        async with asyncio.timeout(5):
            return await consumer

    assert run(hosts, story) is not None


def test_closing_a_view_ends_its_iterations(hosts):
    async def story(registry):
        view = await registry.children("/svc/providers")
        consumer = asyncio.create_task(collect(view))
        await asyncio.sleep(0)
        await view.close()
        return await asyncio.wait_for(consumer, 5)

    assert len(run(hosts, story)) <= 1


async def collect(view):
    return [snapshot async for snapshot in view]


def test_registrations_are_updated_and_closed(hosts, kazoo):
    async def story(registry):
        async with await registry.register("/svc/providers", "10.0.0.1:80") as registration:
            await registration.update(weight=2)
            await registration.wait_until_registered()
            await registration.drain()
            data = await asyncio.to_thread(kazoo.get, "/svc/providers/10.0.0.1:80")
            assert b'"state":"draining"' in data[0]
        assert await asyncio.to_thread(kazoo.get_children, "/svc/providers") == []

    run(hosts, story)


def test_locks_are_waited_for(hosts, kazoo):
    async def story(registry):
        assert await registry.make_node("/locks")
        async with await registry.lock("/locks", "primary") as mine:
            await mine.wait_until_held()
            theirs = await registry.lock("/locks", "primary")
            assert (mine.lock.held, theirs.lock.held) == (True, False)
        await theirs.wait_until_held()
        assert theirs.lock.held

    run(hosts, story)


def test_a_cancelled_iteration_unsubscribes(hosts):
    async def story(registry):
        view = await registry.children("/svc/providers")
        consumer = asyncio.create_task(collect(view))
        while not view.view._following._subscribers:
            await asyncio.sleep(0.01)
        consumer.cancel()
        await asyncio.gather(consumer, return_exceptions=True)
        assert view.view._following._subscribers == []

    run(hosts, story)


def test_a_wait_ends_with_its_deadline(hosts):
    async def story(registry):
        view = await registry.children("/svc/providers")
        with pytest.raises(WaitTimedOut):
            await view.wait_until(lambda children: children, 0.05)

    run(hosts, story)


def test_a_view_is_iterated_or_entered_without_being_awaited_first(hosts):
    async def story(registry):
        async for snapshot in registry.children("/svc"):
            assert snapshot.content == ("providers",)
            break
        async with registry.providers("/svc/providers") as view:
            assert view.snapshot.content == {}
        while registry.statistics().views:
            await asyncio.sleep(0.01)

    run(hosts, story)


def test_properties_are_written_and_explained(hosts):
    async def story(registry):
        async with registry.properties("/svc") as properties:
            await properties.update(threads=4)
            assert dict(properties.view) == {"threads": 4}
            assert (await properties.explain("threads")).chain == (("/svc", "threads"),)
            await properties.set(size=1)
            assert dict(properties.view) == {"size": 1}

    run(hosts, story)


def test_closing_the_registry_ends_all_iterations(hosts):
    async def story(registry):
        consumer = asyncio.create_task(collect(await registry.children("/svc")))
        await asyncio.sleep(0)
        await registry.close()
        assert len(await asyncio.wait_for(consumer, 5)) <= 1

    run(hosts, story)


def test_a_closed_registry_says_so_and_is_closed_again_without_complaint(hosts):
    async def story(registry):
        await registry.close()
        with pytest.raises(Closed):
            await registry.exists("/svc")
        with pytest.raises(Closed):
            await registry.children("/svc")

    run(hosts, story)


def test_many_who_wait_hold_up_nobody_and_leave_nothing_when_cancelled(hosts):
    async def story(registry):
        view = await registry.children("/svc/providers")
        before = threading.active_count()
        waiting = [asyncio.create_task(view.wait_until(lambda children: children, 60)) for _ in range(50)]
        while len(view.view._following._subscribers) < 50:
            await asyncio.sleep(0.01)
        assert await asyncio.wait_for(registry.exists("/svc"), 5)
        assert threading.active_count() <= before + 1
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert view.view._following._subscribers == []

    run(hosts, story)


def test_a_wait_for_a_view_ends_when_the_view_is_closed(hosts):
    async def story(registry):
        view = await registry.children("/svc/providers")
        waiting = asyncio.create_task(view.wait_until(lambda children: children, 60))
        await asyncio.sleep(0)
        await view.close()
        with pytest.raises(Closed):
            await asyncio.wait_for(waiting, 5)

    run(hosts, story)


def test_a_wait_for_a_registration_says_why_it_is_not_there(hosts, kazoo):
    async def story(registry):
        kazoo.create("/svc/providers/10.0.0.1:80", b'{"pid": 7, "host": "elsewhere"}', ephemeral=True)
        registration = await registry.register("/svc/providers", "10.0.0.1:80")
        with pytest.raises(WaitTimedOut, match="pid 7 on elsewhere"):
            await registration.wait_until_registered(0.05)
        kazoo.delete("/svc/providers/10.0.0.1:80")
        await registration.wait_until_registered(5)

    run(hosts, story)


@pytest.mark.slow
@pytest.mark.faults
def test_a_cancelled_connect_is_undone(own_zookeeper):
    async def main():
        own_zookeeper.pause()
        task = asyncio.create_task(aio.connect(own_zookeeper.hosts))
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    before = set(threading.enumerate())
    asyncio.run(main())
    own_zookeeper.resume()
    wait_for(lambda: not set(threading.enumerate()) - before)


@pytest.mark.slow
@pytest.mark.faults
def test_the_loop_goes_on_while_zookeeper_is_silent_and_a_cancelled_register_is_undone(own_zookeeper):
    async def story(registry):
        own_zookeeper.pause()
        task = asyncio.create_task(registry.register("/svc/providers", "10.0.0.1:80"))
        ticks = 0
        for _ in range(50):
            await asyncio.sleep(0.01)
            ticks += 1
        assert ticks == 50
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        own_zookeeper.resume()
        await asyncio.to_thread(wait_for, lambda: registry.statistics().registrations == 0)
        view = await registry.children("/svc/providers")
        await view.wait_until(lambda children: not children)

    run(own_zookeeper.hosts, story)


def test_no_zookeeper_is_an_error_and_leaves_no_thread():
    async def main():
        await aio.connect(f"127.0.0.1:{free_port()}", timeout=0.2)

    with pytest.raises(ConnectFailed):
        asyncio.run(main())
    wait_for(lambda: not [t for t in threading.enumerate() if t.name.startswith("zkfleet-aio")])
