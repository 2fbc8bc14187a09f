"""A web server of CSV files that stands for sources' APIs: any number of them, each as slow as its path says.

    python benchmarks/api_stand_in.py        # prints its port

`/SECONDS/NAME.csv` answers after so many seconds with 100 rows of 20 columns, other values each time;
`/same/NAME.csv` answers at once and stays the same, and says so to who asks with its ETag; `/rows/COUNT.csv` answers
at once with so many rows.
"""

from __future__ import annotations

import asyncio
import itertools
import sys

ROWS, COLUMNS = 100, 20
# one server each for many organisations: what is limited by host is then not limited by this machine's being one
HOSTS = [f"127.0.0.{number}" for number in range(1, 201)]
_counter = itertools.count()
_HEAD = ",".join(["id", *(f"column_{number}" for number in range(1, COLUMNS))])


def rows(turn: int, count: int = ROWS) -> bytes:
    """A file whose every row differs from the one before."""
    lines = (",".join([f"r{row}", *(f"{turn + row * column}" for column in range(1, COLUMNS))]) for row in range(count))
    return "\n".join([_HEAD, *lines, ""]).encode()


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection, as many requests as it sends."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            path = head.split(" ", 2)[1].strip("/")
            kind = path.split("/", 1)[0]
            if kind == "same":
                if 'if-none-match: "same"' in head.lower():
                    writer.write(b'HTTP/1.1 304 Not Modified\r\nETag: "same"\r\nContent-Length: 0\r\n\r\n')
                    await writer.drain()
                    continue
                body, etag = rows(0), 'ETag: "same"\r\n'
            elif kind == "rows":
                count = int(path.rpartition("/")[2].removesuffix(".csv"))
                body, etag = rows(next(_counter), count), ""
            else:
                await asyncio.sleep(float(kind))
                body, etag = rows(next(_counter)), ""
            header = f"HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\n{etag}Content-Length: {len(body)}\r\n\r\n"
            writer.write(header.encode() + (b"" if head.startswith("HEAD") else body))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main() -> None:
    """Serve until the parent closes our standard input."""
    server = await asyncio.start_server(answer, HOSTS[0], 0, backlog=1000)
    port = server.sockets[0].getsockname()[1]
    others = await asyncio.start_server(answer, HOSTS[1:], port, backlog=1000)
    print(port, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()
    others.close()


if __name__ == "__main__":
    asyncio.run(main())
