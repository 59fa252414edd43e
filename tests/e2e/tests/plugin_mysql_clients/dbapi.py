"""What an application does through one of Python's drivers for MySQL, login by login.

    dbapi.py DRIVER HOST PORT USER PASSWORD LOGINS

Each login works on a table of its own, which exists and is empty: DRIVER_0, DRIVER_1, and so on. It
ends with an error when any answer is not what it should be.
"""

import datetime
import io
import sys

DRIVER, HOST, PORT, USER, PASSWORD, LOGINS = sys.argv[1:]
DATABASE = "shop"
COLUMNS = "(n, big, ratio, word, raw, moment)"
SIX = "(%s, %s, %s, %s, %s, %s)"

MOMENT = datetime.datetime(2026, 11, 23, 4, 5, 6, 789000)
ROWS = [
    (None, None, None, None, None, None),
    (7, 1234567890123, 2.5, "Größe 東京 🚀 ' \" \\ %", bytes(range(256)), MOMENT),
    (-1, -(2**63), -0.125, "", b"", datetime.datetime(1970, 1, 1)),
    (2**31 - 1, 2**63 - 1, 1e100, "x" * 150, b"'\\\0\x1a" * 50, None),
    # As long as no single segment.
    (0, 0, 0.0, None, b"\xfe\0" * 100_000, MOMENT),
]


def main():
    for number in range(int(LOGINS)):
        # The last of them compresses, where the driver can.
        compresses = number + 1 == int(LOGINS)
        connection = connect(compresses)
        table = f"{DRIVER}_{number}"
        rows(connection, table)
        transactions(connection, table)
        errors(connection, table)
        session(connection, table)
        if DRIVER == "connector":
            prepared(connection, table)
            anew(connection, table, compresses)
        else:
            streamed(connection)
        connection.close()


def connect(compresses):
    names = {"host": HOST, "port": int(PORT), "user": USER, "password": PASSWORD}
    names |= {"database": DATABASE, "charset": "utf8mb4"}
    if DRIVER == "pymysql":
        import pymysql

        return pymysql.connect(**names)
    if DRIVER == "mysqldb":
        import MySQLdb

        return MySQLdb.connect(**names, compress=compresses)
    import mysql.connector

    # Its own collation is one that MariaDB does not know.
    names |= {"collation": "utf8mb4_general_ci", "use_pure": True, "ssl_disabled": True}
    return mysql.connector.connect(**names, compress=compresses)


def check(got, expected):
    if got != expected:
        raise AssertionError(f"{DRIVER}: got {got!r:.300}, not {expected!r:.300}")


def ask(connection, statement, values=()):
    cursor = connection.cursor()
    cursor.execute(statement, values)
    got = [tuple(row) for row in cursor.fetchall()]
    cursor.close()
    return got


def tell(connection, statement, values=()):
    cursor = connection.cursor()
    cursor.execute(statement, values)
    affected = cursor.rowcount
    cursor.close()
    return affected


def count(connection, table):
    return ask(connection, f"select count(*) from {table}")[0][0]


def rows(connection, table):
    """Every type there and back, by texts."""
    for values in ROWS:
        check(tell(connection, f"insert into {table} {COLUMNS} values {SIX}", values), 1)
    connection.commit()
    select = "select n, big, ratio, word, raw, moment from {} order by id"
    check(ask(connection, select.format(table)), ROWS)
    check(ask(connection, f"select id from {table} where word = %s", (ROWS[1][3],)), [(2,)])
    cursor = connection.cursor()
    many = [(number, f"word {number}") for number in range(100)]
    cursor.executemany(f"insert into {table} (n, word) values (%s, %s)", many)
    check(cursor.rowcount, 100)
    connection.commit()
    changed = tell(connection, f"update {table} set ratio = n / 4 where word like %s", ("word %",))
    check(changed, 100)
    check(tell(connection, f"delete from {table} where n between %s and %s", (50, 59)), 10)
    connection.commit()
    check(count(connection, table), len(ROWS) + 90)


def transactions(connection, table):
    before = count(connection, table)
    connection.commit()
    tell(connection, f"insert into {table} (word) values (%s)", ("kept",))
    tell(connection, f"update {table} set n = 1 where word = 'kept'")
    connection.commit()
    tell(connection, f"insert into {table} (word) values (%s)", ("given up",))
    tell(connection, f"delete from {table} where word = 'kept'")
    connection.rollback()
    tell(connection, "start transaction with consistent snapshot")
    tell(connection, f"insert into {table} (word) values ('kept, too')")
    tell(connection, "savepoint here")
    tell(connection, f"insert into {table} (word) values ('back')")
    tell(connection, "rollback to savepoint here")
    tell(connection, "commit")
    check(count(connection, table), before + 2)


def errors(connection, table):
    """A client goes on after errors."""
    wrong = [
        (f"insert into {table} (id, word) values (1, 'twice')", 1062),
        (f"insert into {table} (id) values (2), (900), (3)", 1062),
        ("select from nothing at all", 1064),
        ("select * from no_such_table", 1146),
        (f"update {table} set no_such_column = 1", 1054),
    ]
    for statement, code in wrong:
        try:
            tell(connection, statement)
        except Exception as error:
            check(error.args[0], code)
        else:
            raise AssertionError(f"{DRIVER}: no error for {statement}")
    connection.rollback()


def session(connection, table):
    """What a session remembers, a ping, and a procedure with its result."""
    tell(connection, "set @step = 3, @@session.sort_buffer_size = 300000")
    tell(connection, "create temporary table scratch (n int)")
    tell(connection, f"insert into scratch select n + @step from {table} where n < 5")
    check(len(ask(connection, "select n from scratch order by n")) > 4, True)
    tell(connection, "drop temporary table scratch")
    tell(connection, f"prepare by_text from 'select n from {table} where id = ?'")
    tell(connection, "set @id = 2")
    check(ask(connection, "execute by_text using @id"), [(7,)])
    tell(connection, "deallocate prepare by_text")
    connection.ping()
    cursor = connection.cursor()
    cursor.callproc("add_one", (41,))
    if DRIVER == "connector":
        results = [result.fetchall() for result in cursor.stored_results()]
    else:
        results = [cursor.fetchall()]
        while cursor.nextset():
            pass
    check([[tuple(row) for row in rows] for rows in results], [[(42,)]])
    cursor.close()
    connection.commit()


def streamed(connection):
    """Rows that the client takes one by one, while they come."""
    import MySQLdb.cursors
    import pymysql.cursors

    kind = {"pymysql": pymysql, "mysqldb": MySQLdb}[DRIVER].cursors.SSCursor
    cursor = connection.cursor(kind)
    numbers = "with recursive numbers as (select 1 as n union all select n + 1 from numbers \
               where n < 900) select n, repeat('y', n) from numbers"
    cursor.execute(numbers)
    check(sum(len(word) for _, word in cursor), 900 * 901 // 2)
    cursor.close()


def prepared(connection, table):
    """Prepared statements: all types, types that change, long data, errors, and many at a time."""
    insert = f"insert into {table} {COLUMNS} values {SIX}"
    select = f"select n, big, ratio, word, raw, moment from {table} where id = %s"
    inserting, selecting = connection.cursor(prepared=True), connection.cursor(prepared=True)
    for values in ROWS + ROWS[::-1]:
        inserting.execute(insert, values)
        check(inserting.rowcount, 1)
        selecting.execute(select, (inserting.lastrowid,))
        check([tuple(row) for row in selecting.fetchall()], [values])
    # Said in pieces ahead of the execution.
    inserting.execute(insert, (5, 5, 5.5, "long", io.BytesIO(b"\x80z" * 50_000), None))
    selecting.execute(select, (inserting.lastrowid,))
    check(len(selecting.fetchall()[0][4]), 100_000)
    connection.commit()
    # The same text with other types.
    both = connection.cursor(prepared=True)
    for value in (1, "2", 3.0, None, 2**40, b"5"):
        both.execute(f"update {table} set word = %s where n = 7", (value,))
    connection.commit()
    twice = connection.cursor(prepared=True)
    for _ in range(3):
        try:
            twice.execute(f"insert into {table} (id) values (%s)", (1,))
        except Exception as error:
            check(error.args[0], 1062)
        else:
            raise AssertionError("no error")
    try:
        connection.cursor(prepared=True).execute("select * from no_such_table where id = %s", (1,))
    except Exception as error:
        check(error.args[0], 1146)
    else:
        raise AssertionError("no error")
    for cursor in (inserting, selecting, both, twice):
        cursor.close()
    connection.rollback()


def anew(connection, table, compresses):
    """A session that begins anew: as somebody, which the driver refuses to compress, and as itself."""
    if not compresses:
        connection.cmd_change_user(USER, PASSWORD, DATABASE, charset=45)
        check(ask(connection, "select @step"), [(None,)])
        tell(connection, f"insert into {table} (word) values ('changed')")
        connection.commit()
        tell(connection, "set @step = 4")
    connection.cmd_reset_connection()
    check(ask(connection, "select @step"), [(None,)])
    tell(connection, f"insert into {table} (word) values ('reset')")
    connection.commit()


main()
