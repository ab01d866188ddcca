"""Tells the species of an iris from its measurements."""

import json
import math
import socket

import flask
import waitress

app = flask.Flask(__name__)
with open("/app/model.json", encoding="ascii") as file:
    model = json.load(file)


def is_length(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


@app.get("/")
def greet():
    return f"Hello from {socket.gethostname()}\n"


@app.post("/predict")
def predict():
    asked = flask.request.get_json(silent=True)
    cm = [asked.get(name) for name in model["names"]] if isinstance(asked, dict) else [None]
    if not all(map(is_length, cm)):
        return {"error": "wanted: numbers in cm: " + ", ".join(model["names"])}, 400
    # The class with the highest score, as LogisticRegression.predict has it.
    scores = [
        offset + sum(weight * value for weight, value in zip(weights, cm))
        for weights, offset in zip(model["weights"], model["offsets"])
    ]
    return {"host": socket.gethostname(), "species": model["species"][scores.index(max(scores))]}


if __name__ == "__main__":
    print(f"ready on {socket.gethostname()}", flush=True)
    waitress.serve(app, listen="*:8000", threads=4)
