"""Visitors of the login site, each with several connections.

Usage: visitors.py URL USERS POSTS CONNECTIONS

Each user logs in, fetches the form and posts; half of the posts come from the form, half from a
script. Anything but success ends the program with an error.
"""

import sys
import threading
from html.parser import HTMLParser

import requests

URL, USERS, POSTS, CONNECTIONS = sys.argv[1], *map(int, sys.argv[2:])
failures = []


class Token(HTMLParser):
    value = None

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "input" and attributes.get("name") == "csrf_token":
            self.value = attributes["value"]


def get(http, path):
    """Fetches a form; the answer is its token."""
    response = http.get(URL + path, timeout=30)
    response.raise_for_status()
    token = Token()
    token.feed(response.text)
    return token.value


def post(http, path, **what):
    response = http.post(URL + path, timeout=30, **what)
    response.raise_for_status()
    return response


def write(number, connection, cookies):
    """What one connection of a user does: it fetches the form itself, and posts."""
    http = requests.Session()
    http.cookies.update(cookies)
    token = get(http, "/site/form")
    for number_of_post in range(connection, POSTS, CONNECTIONS):
        text = f"post {number_of_post} of user {number}: <ä & 100 %>"
        if number_of_post % 2:
            post(http, "/site/posts", data={"csrf_token": token, "text": text})
        else:
            post(http, "/site/posts", json={"text": text}, headers={"X-CSRF-Token": token})


def visit(number):
    http = requests.Session()
    credentials = {"user": f"user{number}", "password": f"secret {number}"}
    token = get(http, "/site/login")
    post(http, "/site/login", data={"csrf_token": token, **credentials})
    connections = [
        threading.Thread(target=guarded, args=(write, number, connection, http.cookies.get_dict()))
        for connection in range(CONNECTIONS)
    ]
    for connection in connections:
        connection.start()
    for connection in connections:
        connection.join()


def guarded(act, *arguments):
    try:
        act(*arguments)
    except Exception as error:
        failures.append(repr(error))


users = [threading.Thread(target=guarded, args=(visit, number)) for number in range(USERS)]
for user in users:
    user.start()
for user in users:
    user.join()
for failure in failures:
    print(failure, file=sys.stderr)
sys.exit(bool(failures))
