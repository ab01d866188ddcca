"""Shows the name of the host that answers."""

import socket

import flask
import waitress

app = flask.Flask(__name__)


@app.get("/")
def index():
    return f"<h1>{socket.gethostname()}</h1>\n"


if __name__ == "__main__":
    waitress.serve(app, listen="*:8000", threads=4)
