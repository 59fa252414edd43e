#!/usr/bin/env python3
"""A server to try the plugin with: `server.py PORT PASSWORD FIRST_NUMBER`. It keeps notes in memory."""

import socketserver
import sys

PORT, PASSWORD, FIRST = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
notes = []


def answer(words, user):
    """What is said to one request, and who is logged in after it."""
    if words[:1] == ["AUTH"] and len(words) == 3:
        return ("WELCOME", words[1]) if words[2] == PASSWORD else ("ERR wrong password", None)
    if user is None:
        return "ERR log in first", None
    if words[:1] == ["PUT"]:
        notes.append(" ".join(words[1:]))
        return f"STORED {FIRST + len(notes) - 1}", user
    if words[:1] == ["GET"] and words[1:2] and words[1].isdigit():
        at = int(words[1]) - FIRST
        return (f"NOTE {notes[at]}" if 0 <= at < len(notes) else "ERR no such note"), user
    return "ERR what?", user


class Connection(socketserver.StreamRequestHandler):
    def handle(self):
        user = None
        for line in self.rfile:
            said, user = answer(line.decode().split(), user)
            print(f"{PORT} {line.decode().strip()} -> {said}", flush=True)
            self.wfile.write(f"{said}\r\n".encode())


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


Server(("127.0.0.1", PORT), Connection).serve_forever()
