"""A WebSocket server that echoes, and writes down each connection.

Usage: server.py PORT JOURNAL

A line is the handshake's mark, the number of messages and the hash of all of them.
"""

import asyncio
import hashlib
import sys

import websockets


async def talk(connection):
    mark, count, digest = connection.request_headers.get("X-Lab-Mark", "-"), 0, hashlib.sha256()
    async for message in connection:
        digest.update(message.encode() if isinstance(message, str) else message)
        count += 1
        await connection.send(message)
    with open(sys.argv[2], "a") as journal:
        journal.write(f"{mark} {count} {digest.hexdigest()}\n")


async def main():
    async with websockets.serve(talk, "0.0.0.0", int(sys.argv[1]), compression=None):
        await asyncio.Future()


asyncio.run(main())
