"""Longshore's demo app: says which replica answered, and can burn CPU or time on request.

It is an ordinary Flask app under waitress (a production WSGI server in one process: about 70 ms
less CPU per start than gunicorn with a worker, which counts when 30 replicas start on two cores).

Environment: PORT (8000), THREADS (4), CONNECTIONS (1000: open at a time; HAProxy's limit per
replica must stay below), LAME_DUCK_MS (0: how long to go on accepting after SIGTERM while /healthz
already answers 503), GRACE_MS (9000: the longest wait for requests in flight).
"""

import logging
import os
import signal
import socket
import time
from datetime import datetime, timezone

# As pid 1 of its container a process without a handler ignores SIGTERM. Nothing is served yet,
# so a stop that comes while the imports below run may simply end it.
signal.signal(signal.SIGTERM, lambda _signum, _frame: os._exit(0))

from flask import Flask, jsonify, request  # noqa: E402
from waitress import create_server, wasyncore  # noqa: E402
from waitress.task import ThreadedTaskDispatcher  # noqa: E402

PORT = int(os.environ.get("PORT", "8000"))
THREADS = int(os.environ.get("THREADS", "4"))
CONNECTIONS = int(os.environ.get("CONNECTIONS", "1000"))
LAME_DUCK_S = int(os.environ.get("LAME_DUCK_MS", "0")) / 1000
GRACE_S = int(os.environ.get("GRACE_MS", "9000")) / 1000
MAX_MS = 10_000
# Room for a host name of 63 characters.
ANSWER_BYTES = 110

HOST = socket.gethostname()
app = Flask(__name__)
app.json.sort_keys = False
draining_since = None


def milliseconds(default):
    """The `ms` parameter, capped: one request must not hold a thread for ever."""
    value = request.args.get("ms", default, type=int)
    return max(0, min(value, MAX_MS))


@app.get("/")
def index():
    # Of one length whatever the host is called: `ab` counts answers of another length as failed.
    answer = jsonify(message="Hello", host=HOST)
    answer.set_data(answer.get_data(as_text=True).rstrip("\n").ljust(ANSWER_BYTES) + "\n")
    return answer


@app.get("/host")
def host():
    return jsonify(host=HOST)


@app.get("/date")
def date():
    return jsonify(date=datetime.now(timezone.utc).isoformat(timespec="milliseconds"), host=HOST)


@app.get("/burn")
def burn():
    """Uses that much CPU time of this thread, however long it takes on the clock."""
    ms = milliseconds(100)
    end = time.thread_time() + ms / 1000
    rounds = 0
    while time.thread_time() < end:
        for _ in range(1000):
            rounds += 1
    return jsonify(burned_ms=ms, rounds=rounds, host=HOST)


@app.get("/slow")
def slow():
    ms = milliseconds(100)
    time.sleep(ms / 1000)
    return jsonify(slept_ms=ms, host=HOST)


@app.get("/healthz")
def healthz():
    if draining_since is not None:
        return jsonify(status="draining", host=HOST), 503
    return jsonify(status="ok", host=HOST)


def on_term(_signum, _frame):
    global draining_since
    if draining_since is None:
        draining_since = time.monotonic()
        # os.write: print is not safe inside a signal handler.
        os.write(1, f"{HOST} drains\n".encode())


class Dispatcher(ThreadedTaskDispatcher):
    """Health checks have a thread of their own: full threads are load, not illness."""

    def __init__(self, threads):
        super().__init__()
        self.set_thread_count(threads)
        self.health = ThreadedTaskDispatcher()
        self.health.set_thread_count(1)

    def add_task(self, task):
        # A request that could not be parsed has no path.
        health = task.requests and getattr(task.requests[0], "path", None) == "/healthz"
        (self.health if health else super()).add_task(task)


def busy(server):
    """True while a request is worked on or an answer is not yet written out."""
    return any(c.requests or c.total_outbufs_len for c in list(server.active_channels.values()))


def serve():
    channels = {}
    # waitress stops accepting at its limit, health checks included: 100 by default, which one
    # `ab -c 100` fills.
    server = create_server(
        app,
        map=channels,
        _dispatcher=Dispatcher(THREADS),
        host="0.0.0.0",
        port=PORT,
        connection_limit=CONNECTIONS,
        backlog=2048,
        ident="hello",
    )
    signal.signal(signal.SIGTERM, on_term)
    signal.signal(signal.SIGINT, on_term)
    # A signal wakes no select() by itself (PEP 475): this socket pair does.
    wake_r, wake_w = socket.socketpair()
    wake_r.setblocking(False)
    wake_w.setblocking(False)
    signal.set_wakeup_fd(wake_w.fileno(), warn_on_full_buffer=False)
    wake = wasyncore.dispatcher(wake_r, map=channels)
    wake.writable = lambda: False
    wake.handle_read = lambda: wake.recv(64)

    # A queue is what load looks like here, not news for the log.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    print(f"{HOST} listens on port {PORT}", flush=True)

    listening = True
    while True:
        # poll(), as select() knows no descriptor above 1023.
        timeout = 30 if draining_since is None else 0.02
        wasyncore.loop(timeout=timeout, use_poll=True, map=channels, count=1)
        if draining_since is None:
            continue
        age = time.monotonic() - draining_since
        if listening and age >= LAME_DUCK_S:
            wasyncore.dispatcher.close(server)  # the listening socket only; open ones live on
            listening = False
        if not listening and (not busy(server) or age >= LAME_DUCK_S + GRACE_S):
            # Nothing is left to finish: skip the interpreter's slow tear-down.
            os._exit(0)


if __name__ == "__main__":
    serve()
