"""Counts visits in redis, which it knows by its service's name only."""

import os
import socket

import flask
import redis
import waitress
from redis.backoff import ConstantBackoff
from redis.retry import Retry

app = flask.Flask(__name__)
# As programs do: connections are kept, and one that has ended is made anew. `CONNECT=each`: a
# connection for each request, and no second try.
each = os.environ.get("CONNECT") == "each"
host = os.environ.get("REDIS", "redis")


def store():
    return redis.Redis(
        host=host,
        port=6379,
        socket_timeout=5,
        socket_connect_timeout=5,
        retry=None if each else Retry(ConstantBackoff(0.05), 3),
        retry_on_error=[] if each else [redis.ConnectionError, redis.TimeoutError],
    )


kept = None if each else store()


@app.get("/")
def visit():
    visits = None
    client = store() if each else kept
    try:
        visits = client.incr("visits")
    finally:
        if each:
            client.close()
    return {"host": socket.gethostname(), "visits": visits}


@app.get("/healthz")
def healthz():
    return "ok\n"


if __name__ == "__main__":
    waitress.serve(app, listen="*:8000", threads=4)
