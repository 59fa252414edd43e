"""WebSocket clients that check that everything comes back.

Usage: client.py URL CONNECTIONS MESSAGES
"""

import asyncio
import sys

import websockets


async def talk(number):
    async with websockets.connect(sys.argv[1], compression=None) as connection:
        for message in range(int(sys.argv[3])):
            words = f"{number}/{message} " * (1 + message * message)
            what = words if message % 2 else words.encode()
            await connection.send(what)
            assert await connection.recv() == what


async def main():
    await asyncio.gather(*(talk(number) for number in range(int(sys.argv[2]))))


asyncio.run(main())
