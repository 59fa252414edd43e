"""Pools of Python's applications: threads that share some connections.

    pools.py POOL HOST PORT USER PASSWORD VISITS

POOL is `sqlalchemy` (with PyMySQL: a ping before each use, a rollback behind it) or `connector`
(mysql-connector's own: a ping before each use, COM_RESET_CONNECTION behind it). Each connection
works on a table of its own, which exists and is empty: POOL_pool_0 to POOL_pool_7. Each thread uses
connections VISITS times.
"""

import itertools
import sys
import threading

POOL, HOST, PORT, USER, PASSWORD, VISITS = sys.argv[1:]
DATABASE = "shop"
CONNECTIONS = 8

# The connector's pool gives an error where it has none left; the other one lets threads wait.
THREADS = 8 if POOL == "connector" else 12


def main():
    checkout = {"sqlalchemy": sqlalchemy_pool, "connector": connector_pool}[POOL]()
    failures = []

    def work(number):
        try:
            for turn in range(int(VISITS)):
                checkout(lambda ask, table: visit(ask, table, number, turn))
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        sys.exit(1)


def visit(ask, table, number, turn):
    """What one use of a connection says; it tells whether that is to be kept."""
    ask(f"insert into {table} (n, word) values ({number}, 'turn {turn}')")
    found = ask(f"select id, n, word from {table} where n = {number} order by id desc limit 5")
    if found[0][1:] != (number, f"turn {turn}"):
        raise AssertionError(f"{POOL}: got {found!r}")
    ask(f"update {table} set big = coalesce(big, 0) + {turn} where id = {found[0][0]}")
    if turn % 5 == 0:
        ask(f"delete from {table} where id = {found[-1][0]}")
    return turn % 7 != 0


def sqlalchemy_pool():
    from sqlalchemy import create_engine, event, text

    names = f"{USER}:{PASSWORD}@{HOST}:{PORT}/{DATABASE}?charset=utf8mb4"
    sizes = {"pool_size": CONNECTIONS, "max_overflow": 0, "pool_timeout": 120}
    engine = create_engine(f"mysql+pymysql://{names}", pool_pre_ping=True, **sizes)
    numbers = itertools.count()

    @event.listens_for(engine, "connect")
    def is_new(_, record):
        record.info["table"] = f"{POOL}_pool_{next(numbers)}"

    def checkout(use):
        with engine.connect() as connection:
            transaction = connection.begin()

            def ask(statement):
                result = connection.execute(text(statement))
                return [tuple(row) for row in result] if result.returns_rows else []

            # What is not kept ends as the connection comes back.
            if use(ask, connection.connection.info["table"]):
                transaction.commit()

    return checkout


def connector_pool():
    from mysql.connector.pooling import MySQLConnectionPool

    names = {"host": HOST, "port": int(PORT), "user": USER, "password": PASSWORD}
    names |= {"database": DATABASE, "charset": "utf8mb4", "collation": "utf8mb4_general_ci"}
    names |= {"use_pure": True, "ssl_disabled": True}
    pool = MySQLConnectionPool(pool_size=CONNECTIONS, pool_name=POOL, **names)
    tables, lock = {}, threading.Lock()

    def checkout(use):
        connection = pool.get_connection()
        with lock:
            table = tables.setdefault(id(connection._cnx), f"{POOL}_pool_{len(tables)}")

        def ask(statement):
            cursor = connection.cursor()
            cursor.execute(statement)
            rows = cursor.fetchall() if cursor.with_rows else []
            cursor.close()
            return rows

        if use(ask, table):
            connection.commit()
        connection.close()

    return checkout


main()
