"""A site with a login: sessions in a store of its own, and forms that carry a token of the session.

Usage: app.py PORT STORE TOKEN_BYTES

It listens on the loopback only, behind a real web server.
"""

import secrets
import sqlite3
import sys

from flask import Flask, abort, g, jsonify, redirect, render_template_string, request
from werkzeug.security import check_password_hash, generate_password_hash

PORT, STORE, TOKEN_BYTES = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
COOKIE = "sid"
USERS = 8

PAGE = """<!doctype html>
<title>{{ title }}</title>
{% for text in posts %}<p>{{ text }}</p>
{% endfor %}<form method="post" action="{{ action }}">
  <input type="hidden" name="csrf_token" value="{{ token }}">
  {% for field in fields %}<input name="{{ field }}">
  {% endfor %}<button>Go</button>
</form>
"""

app = Flask(__name__)


def store():
    if "store" not in g:
        g.store = sqlite3.connect(STORE, timeout=30, isolation_level=None)
    return g.store


@app.teardown_appcontext
def close_store(_error):
    if "store" in g:
        g.store.close()


def make_store():
    db = sqlite3.connect(STORE)
    # Nothing here has to survive the machine.
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = OFF")
    db.execute("CREATE TABLE user (name PRIMARY KEY, password)")
    db.execute("CREATE TABLE session (id PRIMARY KEY, user, token)")
    db.execute("CREATE TABLE post (user, text)")
    db.execute("CREATE TABLE counter (name PRIMARY KEY, n INTEGER)")
    for number in range(USERS):
        password = generate_password_hash(f"secret {number}", method="pbkdf2:sha256:1000")
        db.execute("INSERT INTO user VALUES (?, ?)", (f"user{number}", password))
    for name in ("logins", "accepted", "refused"):
        db.execute("INSERT INTO counter VALUES (?, 0)", (name,))
    db.commit()
    db.close()


def count(name):
    store().execute("UPDATE counter SET n = n + 1 WHERE name = ?", (name,))


def session():
    """The row of the session whose cookie came, if there is one."""
    query = "SELECT id, user, token FROM session WHERE id = ?"
    return store().execute(query, (request.cookies.get(COOKIE, ""),)).fetchone()


def open_session(user, response):
    """Opens a session; its cookie goes with the response."""
    row = (secrets.token_urlsafe(TOKEN_BYTES), user, secrets.token_urlsafe(TOKEN_BYTES))
    store().execute("INSERT INTO session VALUES (?, ?, ?)", row)
    response.set_cookie(COOKIE, row[0], httponly=True, samesite="Lax")
    return row


def refuse(why):
    count("refused")
    abort(403, why)


def check_token(row):
    said = request.headers.get("X-CSRF-Token") or request.form.get("csrf_token", "")
    if row is None or not secrets.compare_digest(said, row[2]):
        refuse("no such session, or not its token")


@app.get("/site/login")
def login_form():
    response = app.make_response("")
    row = session() or open_session(None, response)
    fields = ["user", "password"]
    response.set_data(
        render_template_string(PAGE, title="Login", action="/site/login", token=row[2], fields=fields)
    )
    return response


@app.post("/site/login")
def login():
    row = session()
    check_token(row)
    name = request.form.get("user", "")
    known = store().execute("SELECT password FROM user WHERE name = ?", (name,)).fetchone()
    if known is None or not check_password_hash(known[0], request.form.get("password", "")):
        refuse("no such user, or another password")
    # A session from before the login is worth nothing after it.
    store().execute("DELETE FROM session WHERE id = ?", (row[0],))
    response = redirect("/site/form", 303)
    open_session(name, response)
    count("logins")
    return response


def logged_in():
    row = session()
    if row is None or row[1] is None:
        abort(403, "not logged in")
    return row


@app.get("/site/form")
def form():
    row = logged_in()
    query = "SELECT text FROM post WHERE user = ? ORDER BY rowid DESC LIMIT 3"
    posts = [text for (text,) in store().execute(query, (row[1],))]
    return render_template_string(
        PAGE, title="Write", action="/site/posts", token=row[2], fields=["text"], posts=posts
    )


@app.post("/site/posts")
def write():
    """A post from the form, or, with the token in a header, from a script."""
    row = session()
    check_token(row)
    if row[1] is None:
        refuse("not logged in")
    said = request.get_json(silent=True) if request.is_json else request.form
    store().execute("INSERT INTO post VALUES (?, ?)", (row[1], said["text"]))
    count("accepted")
    return jsonify(by=row[1]), 201


@app.get("/counters")
def counters():
    return jsonify(dict(store().execute("SELECT name, n FROM counter")))


@app.get("/posts")
def posts():
    """Who wrote what, sorted."""
    return jsonify(list(store().execute("SELECT user, text FROM post ORDER BY user, text")))


make_store()
app.run("127.0.0.1", PORT, threaded=True)
