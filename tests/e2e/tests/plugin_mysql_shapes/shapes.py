"""Every shape of exchange: each function below is a scene of its own.

    shapes.py HOST FLAGS DIRECTORY SCENE...

FLAGS are capabilities; DIRECTORY has room for files.
"""

import os
import sys
import threading
import time

from pymysql.constants import COMMAND
from pymysql.err import MySQLError

from mysql_client import LONG, RESET_CONNECTION, Client

HOST, FLAGS, DIRECTORY = sys.argv[1], int(sys.argv[2], 0), sys.argv[3]
MIB = 1 << 20
CURSOR_READ_ONLY = 1

# Numbers of rows that no other client has.
OWN = 10_000 if FLAGS else 20_000


def connect(user="app", password="origin-app", database="shop", **more):
    return Client(
        FLAGS, host=HOST, user=user, password=password, database=database, **more
    )


def fails(code, action, *arguments, **more):
    try:
        action(*arguments, **more)
    except MySQLError as error:
        assert error.args[0] in (code if isinstance(code, tuple) else (code,)), error
    else:
        raise AssertionError(f"{arguments} did not fail")


def packets():
    """Messages around the most that one packet holds, and results of that size."""
    client = connect()
    full = 16 * MIB - 1
    before, behind = "insert into big (id, it) values ({}, '", "')"
    # One byte of a message is the command's.
    around = [full - 1, full, full + 1, 2 * full, 20 * MIB, 33 * MIB]
    for number, size in enumerate(around):
        head = before.format(number)
        it = chr(97 + number) * (size - 1 - len(head) - len(behind))
        assert client.sql(head + it + behind) == [1]
    statement = client.prepare("insert into big (id, it) values (?, ?)")
    for number, size in ((10, 1 * MIB), (11, 17 * MIB)):
        assert statement.execute(number, "p" * size) == [1]
    statement.send_long(1, b"l" * (17 * MIB))
    assert statement.execute(12, LONG) == [1]
    for size in (full - 5, full - 4, full - 3, 20 * MIB):
        (rows,) = client.sql(f"select repeat('r', {size})")
        assert len(rows) == 1 and rows[0].count(b"r") == size
    (rows,) = client.sql("select it from big where id between 10 and 12")
    assert [len(row) > MIB for row in rows] == [True] * 3
    client.close()


def long_text():
    client = connect()
    for size in (255_000, 270_000, MIB):
        numbers = ", ".join(str(number) for number in range(size // 7))
        (rows,) = client.sql(f"select count(*) from shop.items where id in ({numbers})")
        assert len(rows) == 1
    client.close()


def files():
    client = connect(local_infile=True)
    load = "load data local infile '{}' into table shop.loaded fields terminated by ','"
    names = [os.path.join(DIRECTORY, name) for name in ("large", "small", "empty")]
    for name, lines in zip(names, (200_000, 3, 0)):
        with open(name, "w") as file:
            for line in range(lines):
                file.write(f"{line},this is line {line} of {name}\n")
        assert client.sql(load.format(name)) == [lines]
    assert client.sql(load.format(os.path.join(DIRECTORY, "none"))) == [0]
    assert client.sql(f"select 1; {load.format(names[1])}; select 2")[1] == 3
    fails(1146, client.sql, load.format(names[1]).replace("loaded", "nowhere"))
    client.close()


def cursors():
    client = connect()
    statement = client.prepare("select id, it from items where id > ? and id <= 1000 order by id")
    # MySQL 9.7 sends no rows, nor their end, where the first execution had a cursor and a later
    # one has none.
    assert len(statement.execute(990)[0]) == 10
    for first, batch in ((0, 100), (500, 7), (990, 100)):
        assert statement.execute(first, flags=CURSOR_READ_ONLY) == [[]]
        ids, is_last = 0, False
        while not is_last:
            rows, is_last = statement.fetch(batch)
            ids += len(rows)
        assert ids == 1000 - first, ids
    statement.execute(0, flags=CURSOR_READ_ONLY, tells_types=False)
    statement.fetch(10)
    statement.reset()
    fails(1421, statement.fetch, 10)
    (rows,) = statement.execute(998)
    assert len(rows) == 2
    # Two at a time, and one that ends with its statement.
    other = client.prepare("select it from items where id <= 1000 order by id")
    for it in (other, statement):
        it.execute(*[0] * (it is statement), flags=CURSOR_READ_ONLY)
    for _ in range(5):
        assert len(other.fetch(3)[0]) == len(statement.fetch(2)[0]) + 1
    statement.close()
    assert len(other.fetch(2000)[0]) == 985
    client.close()


def several():
    client = connect()
    results = client.sql(
        "insert into notes (it) values ('one'); select 1; select it from items limit 3;"
    )
    assert [results[0], len(results[1]), len(results[2])] == [1, 1, 3]
    never = "insert into notes (it) values ('never')"
    fails(1146, client.sql, f"select 1; insert into nowhere values (1); {never}")
    put = "insert into items (id, it) values (5000, 'x')"
    fails(1062, client.sql, f"{put}; {put}; {never}")
    fails(1065, client.sql, "")
    fails(1065, client.sql, "   ")
    fails(1064, client.sql, "selec nonsense")
    assert client.sql("delete from items where id = 5000") == [1]
    client.sql("begin; insert into notes (it) values ('two'); rollback")
    client.sql("begin; update notes set it = 'three' where it = 'one'; commit")
    for option, is_on in ((b"\1\0", False), (b"\0\0", True)):
        client.command(COMMAND.COM_SET_OPTION, option)
        client.packet()
        if not is_on:
            fails(1064, client.sql, "select 1; select 2")
    assert len(client.sql("select 1; select 2")) == 2
    client.close()


def procedures():
    client = connect()
    results = client.sql("call report(3, @sum)")
    assert [len(result) for result in results[:-1]] == [3, 1]
    assert len(client.sql("select @sum")[0]) == 1
    assert len(client.sql("call report(2, @sum); call report(1, @sum)")) == 6
    statement = client.prepare("call report(?, ?)")
    for count in (2, 4):
        results = statement.execute(count, None)
        # The parameters that go out are a result of their own.
        assert [len(result) for result in results[:-1]] == [count, 1, 1], results
    statement.close()
    fails(1644, client.sql, "call fail_late()")
    fails(1305, client.sql, "call nobody()")
    client.close()


def users():
    client = connect()
    client.sql("set @mine = 1; set names latin1")
    for _ in range(2):
        client.change_user("other", "origin-other", "archive")
        (rows,) = client.sql("select it from shop.items limit 2")
        client.sql("insert into kept values (current_user())")
        client.sql("insert into shop.notes (it) values (ifnull(@mine, 'gone'))")
        client.change_user("app", "origin-app", "shop")
        assert client.sql("insert into notes (it) values (database())") == [1]
    client.close()
    # Prepared statements and what is restored do not outlive it.
    client = connect()
    statement = client.prepare("insert into notes (it) values (?)")
    statement.execute("before")
    client.change_user("app", "origin-app", "archive")
    fails(1243, statement.execute, "behind")
    client.prepare("insert into kept values (?)").execute("anew")
    client.ask(RESET_CONNECTION)
    client.prepare("insert into archive.kept values (?)").execute("anew again")
    client.close()


def wrong_users():
    for database in ("archive", "shop"):
        client = connect()
        client.sql("insert into notes (it) values ('before')")
        fails(1045, client.change_user, "other", "wrong", database)
        try:
            client.sql("insert into shop.notes (it) values ('behind')")
        except (MySQLError, OSError):
            pass
        client._force_close()


def tracking():
    """What is said of the session's state by the way."""
    client = connect()
    client.sql("set session session_track_system_variables = '*'")
    client.sql("set session session_track_state_change = 1")
    client.sql("set session session_track_transaction_info = 'CHARACTERISTICS'")
    client.sql("use archive; set names latin1; use shop")
    client.sql("begin; insert into notes (it) values ('tracked'); commit")
    client.ask(COMMAND.COM_INIT_DB, b"archive")
    client.sql("insert into kept values (database())")
    if client.has_metadata_flag:
        client.sql("set session resultset_metadata = 'none'")
    for _ in range(3):
        assert len(client.sql("select it from shop.items limit 5")[0]) == 5
        statement = client.prepare("select it from shop.items where id < ?")
        assert len(statement.execute(4)[0]) == 3
        statement.execute(4, flags=CURSOR_READ_ONLY)
        assert len(statement.fetch(2)[0]) == 2
        statement.close()
    client.close()


def small():
    client = connect()
    for _ in range(3):
        client.ask(COMMAND.COM_PING)
        client.command(COMMAND.COM_STATISTICS)
        assert b"Uptime" in client.packet()
    client.ask(COMMAND.COM_INIT_DB, b"archive")
    client.sql("insert into kept values (database())")
    fails(1049, client.ask, COMMAND.COM_INIT_DB, b"nowhere")
    client.sql("use shop")
    client.command(COMMAND.COM_FIELD_LIST, b"items\0%")
    try:
        while not client.is_end(client.packet()):
            pass
    except MySQLError as error:
        assert error.args[0] in (1047, 1835), error
    client.ask(RESET_CONNECTION)
    client.ask(COMMAND.COM_INIT_DB, b"shop")
    for names, text in (("latin1", b"\xe9t\xe9"), ("utf8mb4", "été".encode())):
        client.sql(f"set names {names}")
        client.sql(b"insert into notes (it) values ('" + text + b"')")
    client.sql("set character set latin1")
    client.sql(b"insert into notes (it) values ('\xfc')")
    client.sql("set autocommit = 0")
    client.sql("insert into notes (it) values ('rolled back')")
    client.sql("rollback")
    client.sql("set session sql_mode = 'ANSI_QUOTES'")
    client.sql("insert into \"notes\" (it) values ('quoted')")
    client.sql("commit")
    client.close()


def kills():
    killer = connect()
    kinds = ["query", "connection"]
    # MySQL 9 has no command for it.
    kinds += ["command"] * ("MariaDB" in killer.server_version)
    for kind in kinds:
        client = connect()
        (rows,) = client.sql("select connection_id()")
        assert str(client.thread_id()).encode() in rows[0]
        done = []

        def sleep():
            try:
                done.append(len(client.sql("select sleep(20)")[0]))
            except (MySQLError, OSError) as error:
                done.append(error.args[0])

        thread = threading.Thread(target=sleep)
        thread.start()
        # The target must have begun it too, which nothing tells here.
        time.sleep(3.0)
        if kind == "command":
            killer.ask(COMMAND.COM_PROCESS_KILL, client.thread_id().to_bytes(4, "little"))
        else:
            killer.sql(f"kill {kind} {client.thread_id()}")
        thread.join(5)
        assert done, "it was not killed"
        if kind == "query":
            assert client.sql("insert into notes (it) values ('still there')") == [1]
            client.close()
        else:
            client._force_close()
    # Nobody has this number.
    fails(1094, killer.sql, "kill query 4000000")
    killer.close()


def prepared():
    """Statements whose numbers differ between the servers, since only one of them prepares some."""
    client = connect()
    for table in ("only_at_target", "only_at_origin", "only_at_target"):
        try:
            client.prepare(f"select * from single.{table}")
        except MySQLError as error:
            assert error.args[0] == 1146, error
    fails(1064, client.prepare, "select")
    statement = client.prepare("insert into items (id, it) values (?, ?)")
    for number in range(OWN, OWN + 10):
        is_first = number == OWN
        assert statement.execute(number, f"number {number}", tells_types=is_first) == [1]
    fails(1062, statement.execute, OWN, "again")
    reader = client.prepare("select it from items where id = ? and it like ?")
    assert len(reader.execute(OWN + 5, "num%")[0]) == 1
    # Types may change from one to the next.
    assert len(reader.execute(str(OWN + 5), "num%")[0]) == 1
    assert len(reader.execute(OWN + 5.0, b"num%")[0]) == 1
    statement.close()
    fails(1243, statement.execute, OWN + 11, "closed")
    changes = {
        "delete from items where id between ? and ?": (OWN + 8, OWN + 9),
        "update items set it = ? where id = ?": ("changed", OWN + 1),
    }
    for text, values in changes.items():
        changer = client.prepare(text)
        changer.execute(*values)
        changer.close()
    client.close()


def nulls():
    client = connect()
    for count in (1, 2, 7, 8, 9, 16, 17, 250, 300):
        marks = ", ".join("?" * count)
        statement = client.prepare(f"select concat_ws('-', {marks})")
        for pattern in (1, 2, 3, count):
            values = [None if place % pattern else place for place in range(count)]
            (rows,) = statement.execute(*values)
            told = "-".join(str(value) for value in values if value is not None)
            assert told.encode() in rows[0]
        insert = client.prepare(f"insert into notes (it) values (concat_ws('-', {marks}))")
        insert.execute(*[None if place % 3 == 1 else place for place in range(count)])
        insert.execute(*[None] * count)
        insert.close()
        statement.close()
    client.close()


def long_data():
    client = connect()
    statement = client.prepare("insert into big (id, it, more) values (?, ?, ?)")
    for number in range(5):
        for chunk in range(number):
            statement.send_long(1, b"chunk %d;" % chunk * 1000)
            statement.send_long(2, b"more %d" % chunk)
        is_long = number > 0
        it = LONG if is_long else "at once"
        assert statement.execute(OWN + number, it, it) == [1]
    # What was sent before a reset counts no more.
    statement.send_long(1, b"forgotten")
    statement.reset()
    assert statement.execute(OWN + 5, "kept", None) == [1]
    statement.send_long(1, b"")
    assert statement.execute(OWN + 6, LONG, "x") == [1]
    statement.close()
    client.close()


def by_name():
    client = connect()
    client.sql("prepare put from 'insert into notes (it) values (?)'")
    client.sql("set @it = 'by name'")
    for _ in range(3):
        assert client.sql("execute put using @it") == [1]
    client.sql("set @text = 'select it from items where id < ?'")
    client.sql("prepare take from @text")
    client.sql("set @id = 4")
    assert len(client.sql("execute take using @id")[0]) == 3
    fails(1210, client.sql, "execute take")
    client.sql("deallocate prepare take; deallocate prepare put")
    fails(1243, client.sql, "execute put using @it")
    client.close()


def only_at_origin():
    """Statements that the target can't do, and others that neither can."""
    client = connect()
    for number in range(3):
        put = f"insert into single.only_at_origin values ({number}, 'secret-{number}')"
        assert client.sql(put) == [1]
    client.sql("select it from single.only_at_origin where it = 'secret-1'")
    statement = client.prepare("select id from single.only_at_origin where id = ?")
    statement.execute(1)
    statement.close()
    client.sql("update single.common set extra = 'secret-2' where id = 4711")
    for _ in range(2):
        fails(1146, client.sql, "select it from nowhere where it = 'secret-3'")
    fails(1062, client.sql, "insert into items values (1, 'secret-4')")
    # More kinds that go well than a report tells of.
    for number in range(20):
        for _ in range(3):
            client.sql(f"select id{', it' * number} from items limit 1")
    client.close()


def reads_and_writes():
    client = connect()
    take = client.prepare("select it from items where id = ?")
    put = client.prepare("insert into items (id, it) values (?, ?)")
    change = client.prepare("update items set it = ? where id = ?")
    for number in range(1, 21):
        assert len(take.execute(number)[0]) == 1
        assert put.execute(3000 + number, "new") == [1]
        assert change.execute("changed", number) == [1]
        client.sql("begin")
        assert len(client.sql(f"select * from items where id = {number}")[0]) == 1
        assert client.sql(f"delete from items where id = {3000 + number}") == [1]
        client.sql("commit")
    put.send_long(1, b"long")
    put.execute(3000, LONG)
    for it in (take, put, change):
        it.close()
    client.sql("prepare put from 'insert into notes (it) values (1)'")
    client.sql("execute put")
    client.sql("deallocate prepare put")
    client.sql("prepare take from 'select count(*) from items'")
    assert len(client.sql("execute take")[0]) == 1
    client.sql("deallocate prepare take")
    client.sql("call report(2, @sum)")
    client.sql("create table made (id int)")
    client.sql("drop table made")
    client.sql("with few as (select 1) select * from few")
    client.sql("begin; select * from items limit 1 for update; rollback")
    client.sql("truncate table notes")
    client.sql("set @a = 1; set names utf8mb4; show tables")
    client.close()


if __name__ == "__main__":
    for scene in sys.argv[4:]:
        try:
            globals()[scene]()
        except BaseException:
            print(f"in the scene {scene}:", file=sys.stderr)
            raise
