"""Which host, and what time it is there."""

import datetime
import socket

import flask
import waitress

app = flask.Flask(__name__)


@app.get("/host")
def host():
    return socket.gethostname() + "\n"


@app.get("/date")
def date():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC\n")


if __name__ == "__main__":
    waitress.serve(app, listen="*:8000", threads=4)
