import asyncio
import socket
from contextlib import closing

from zkfleet.zeo.kernel import sent


def test_what_the_other_side_takes_is_seen_while_more_is_written():
    asyncio.run(write_more_than_is_taken())


async def write_more_than_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as door:
        _, writer = await asyncio.open_connection(*door.getsockname())
        other, _ = door.accept()
        with closing(other), closing(writer):
            writer.write(b"x" * 20_000_000)
            full = await settled(writer.transport)
            assert full.waiting > 0
            writer.write(b"x" * 20_000_000)
            other.setblocking(False)
            reading = asyncio.get_running_loop()
            taken = 0
            while taken < 5_000_000:
                taken += len(await reading.sock_recv(other, 1 << 20))
            later = await settled(writer.transport)
            assert later.taken > full.taken
            assert later.waiting > full.waiting
            writer.transport.abort()


async def settled(transport):
    """How far it has got when nothing moves any more."""
    async with asyncio.timeout(10):
        while True:
            before = sent(transport)
            await asyncio.sleep(0.05)
            if sent(transport) == before:
                return before
