"""Works for a tenth of a second, and says which process of which host did."""

import os
import socket
import time

import flask

app = flask.Flask(__name__)


@app.get("/")
def work():
    time.sleep(0.1)
    return {"host": socket.gethostname(), "pid": os.getpid()}
