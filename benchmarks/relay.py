"""What is it like when the server is far away?

`python -m benchmarks.relay PORT SECONDS` passes bytes on to a port of this machine and
back, each way so much later, and says on its first line where it listens.  It is
a process of its own, so that its work delays nobody.
"""

import asyncio
import sys
from functools import partial


async def relay(port: int, seconds: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    there, back = await asyncio.open_connection("127.0.0.1", port)
    await asyncio.gather(late(reader, back, seconds), late(there, writer, seconds))


async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    while data := await reader.read(1 << 16):
        loop.call_later(seconds, writer.write, data)
    loop.call_later(seconds, writer.close)


async def main(port: int, seconds: float) -> None:
    server = await asyncio.start_server(partial(relay, port, seconds), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
