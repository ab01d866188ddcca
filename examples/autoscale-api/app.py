"""A JSON API that says hello."""

import socket

import flask
import waitress

app = flask.Flask(__name__)


@app.get("/")
def hello():
    return {"host": socket.gethostname(), "message": "Hello"}


if __name__ == "__main__":
    waitress.serve(app, listen="*:8000", threads=4)
