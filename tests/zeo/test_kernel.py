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
            full = sent(writer.transport)
            assert full.waiting > 0
            writer.write(b"x" * 20_000_000)
            other.setblocking(False)
            loop = asyncio.get_running_loop()
            read = 0
            async with asyncio.timeout(10):
                while read < 5_000_000:
                    read += len(await loop.sock_recv(other, 1 << 20))
            later = sent(writer.transport)
            assert later.taken >= read
            assert later.taken > full.taken
            assert later.waiting > full.waiting
            writer.transport.abort()
