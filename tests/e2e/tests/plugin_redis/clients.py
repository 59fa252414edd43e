"""What real applications do with Redis: pools, pipelines, transactions, subscriptions, scripts,
blocking pops, and the corners of the protocol that no client library reaches.

    clients.py HOST PORT PASSWORD USER USER_PASSWORD

An empty PASSWORD means that the server wants none. It ends with an error when any answer is not
what it should be: the origin's own clients come first.
"""

import socket
import sys
import threading

import redis

HOST, PORT = sys.argv[1], int(sys.argv[2])
PASSWORD, USER, USER_PASSWORD = sys.argv[3:6]
ROUNDS = 30


def client(**more):
    if PASSWORD:
        more.setdefault("password", PASSWORD)
    return redis.Redis(host=HOST, port=PORT, **more)


def values(number):
    """Two pools' worth of plain commands, in a database of its own."""
    named = {"username": USER, "password": USER_PASSWORD} if PASSWORD and number % 2 else {}
    server = client(db=number % 3, **named)
    for turn in range(ROUNDS):
        key = f"value:{number}:{turn}"
        assert server.set(key, b"\r\n$3\r\nabc\r\n" * (turn + 1))
        assert server.get(key).startswith(b"\r\n")
        assert server.get(key + ":missing") is None
        assert server.hset(key + ":hash", mapping={"a": 1, "b": b"\x00\xff"}) == 2
        assert len(server.hgetall(key + ":hash")) == 2
        assert server.zadd(key + ":set", {"one": 1.5, "two": 2}) == 2
        try:
            server.incr(key + ":hash")
        except redis.ResponseError as error:
            assert "WRONGTYPE" in str(error)
        else:
            raise AssertionError("a hash is no number")
    large = "x" * 300_000
    assert server.set(f"large:{number}", large)
    assert len(server.get(f"large:{number}")) == len(large)
    server.close()


def pipelines(number):
    server = client()
    for turn in range(ROUNDS):
        plain = server.pipeline(transaction=False)
        for at in range(50):
            plain.set(f"pipe:{number}:{at}", turn)
            plain.get(f"pipe:{number}:{at}")
        assert len(plain.execute()) == 100
        transaction = server.pipeline()
        transaction.watch(f"pipe:{number}:0")
        transaction.multi()
        transaction.incr(f"pipe:{number}:0")
        transaction.lpush(f"list:{number}", turn)
        assert len(transaction.execute()) == 2
    # The first call finds no script: neither at the origin nor at the target.
    script = server.register_script(f"return {{KEYS[1], ARGV[1], 7}} -- {number}")
    for turn in range(ROUNDS):
        assert script(keys=["k"], args=[turn])[2] == 7
    cursor, seen = 0, 0
    while True:
        cursor, keys = server.scan(cursor, match=f"pipe:{number}:*", count=1000)
        seen += len(keys)
        if cursor == 0:
            break
    assert seen == 50
    server.close()


def queue(number):
    """Who waits for an element gets it from another connection."""
    server, waiting = client(), client()
    for turn in range(ROUNDS):
        got = []
        taker = threading.Thread(target=lambda: got.append(waiting.blpop(f"queue:{number}", 20)))
        taker.start()
        server.rpush(f"queue:{number}", turn)
        taker.join()
        assert got[0][1] == str(turn).encode()
    assert waiting.blpop(f"empty:{number}", 1) is None
    server.close()
    waiting.close()


def subscriber(number):
    """Messages come when they like, also between the answers to PING."""
    server, listener = client(), client().pubsub()
    channel = f"news:{number}"
    listener.subscribe(channel, channel + ":more")
    listener.psubscribe(channel + "*")
    for _ in range(3):
        assert listener.get_message(timeout=5)["type"].endswith("subscribe")
    for turn in range(ROUNDS):
        assert server.publish(channel, turn) == 2
        kinds = {listener.get_message(timeout=5)["type"] for _ in range(2)}
        assert kinds == {"message", "pmessage"}
        if turn % 10 == 0:
            listener.ping()
            assert listener.get_message(timeout=5)["type"] == "pong"
    listener.unsubscribe()
    listener.punsubscribe()
    for _ in range(3):
        assert listener.get_message(timeout=5)["type"].endswith("unsubscribe")
    listener.close()
    server.close()


class Wire:
    """A client that says what it likes."""

    def __init__(self):
        self.socket = socket.create_connection((HOST, PORT))
        self.socket.settimeout(20)
        self.input = self.socket.makefile("rb")

    def say(self, *lines):
        self.socket.sendall(b"".join(line.encode() + b"\r\n" for line in lines))

    def expect(self, *lines):
        for line in lines:
            got = self.input.readline().decode().rstrip("\r\n")
            assert got == line or (line.endswith("...") and got.startswith(line[:-3])), (got, line)

    def skip_map(self):
        """The answer to HELLO: seven pairs, of which one is an empty list."""
        self.expect("%7")
        while self.input.readline() != b"*0\r\n":
            pass

    def end(self):
        self.say("QUIT")
        self.expect("+OK")
        assert self.input.read() == b""
        self.socket.close()


def corners(number):
    """RESP3, inline commands, pushes, silence, RESET, MONITOR."""
    wire = Wire()
    login = f" AUTH {USER} {USER_PASSWORD}" if PASSWORD else ""
    wire.say(f"HELLO 3{login} SETNAME corner")
    wire.skip_map()
    wire.say("CLIENT TRACKING ON")
    wire.expect("+OK")
    wire.say(f"SET corner:{number} 1", f"GET corner:{number}", f"SET corner:{number} 2")
    wire.expect("+OK", "$1", "1", "+OK", ">2", "$10", "invalidate", "*1", "$...", "corner:...")
    wire.say("CLIENT TRACKING OFF", "CLIENT REPLY SKIP", "PING", "PING", "CLIENT REPLY OFF", "PING")
    wire.expect("+OK", "+PONG")
    wire.say("PING", "CLIENT REPLY ON", "ECHO \"a b\\x21\"")
    wire.expect("+OK", "$4", "a b!")
    wire.say("SUBSCRIBE a b", "PING", "UNSUBSCRIBE", "NOSUCHCOMMAND")
    wire.expect(">3", "$9", "subscribe", "$1", "a", ":1", ">3", "$9", "subscribe", "$1", "b", ":2")
    wire.expect("+PONG")
    for left in (1, 0):
        wire.expect(">3", "$11", "unsubscribe", "$1", "...", f":{left}")
    wire.expect("-ERR unknown...")
    wire.say("RESET")
    wire.expect("+RESET")
    if PASSWORD:
        wire.say(f"AUTH {PASSWORD}")
        wire.expect("+OK")
    wire.say("MULTI", f"INCR corner:{number}", "DISCARD", "SELECT 1", "DBSIZE")
    wire.expect("+OK", "+QUEUED", "+OK", "+OK", ":...")
    wire.end()
    monitor = Wire()
    if PASSWORD:
        monitor.say(f"AUTH {PASSWORD}")
        monitor.expect("+OK")
    monitor.say("MONITOR")
    monitor.expect("+OK")
    other = client()
    other.set(f"corner:{number}", 3)
    while b'"SET"' not in monitor.input.readline():
        pass
    monitor.socket.close()
    other.close()


def main():
    failures = []

    def guarded(work, number):
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001: whatever it is, it is the result
            failures.append(f"{work.__name__}({number}): {error!r}")

    threads = [
        threading.Thread(target=guarded, args=(work, number))
        for number in range(3)
        for work in (values, pipelines, queue, subscriber)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Alone: nobody else's commands are to be in what MONITOR shows.
    guarded(corners, 0)
    guarded(corners, 1)
    if failures:
        sys.exit("\n".join(failures))


main()
