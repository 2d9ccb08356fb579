import argparse
import json
import os
import pickle
import random
import time

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--momentum", type=float, default=0.9)
parser.add_argument("--epochs", type=int, default=12)
parser.add_argument("--out", default="runs")
args = parser.parse_args()

random.seed(0)
xs = [random.uniform(-1, 1) for _ in range(100)]
ys = [3 * x + 1 for x in xs]
state = {"epoch": 0, "w": 0.0, "b": 0.0, "vw": 0.0, "vb": 0.0}
checkpoint = f"{args.out}/checkpoint.pkl"
if os.path.exists(checkpoint):
    with open(checkpoint, "rb") as file:
        state = pickle.load(file)

for epoch in range(state["epoch"], args.epochs):
    with open(f"{args.out}/begun.txt", "a") as file:
        file.write(f"{epoch}\n")
    time.sleep(0.1)
    errors = [state["w"] * x + state["b"] - y for x, y in zip(xs, ys)]
    state["vw"] = args.momentum * state["vw"] + sum(e * x for e, x in zip(errors, xs)) / len(xs)
    state["vb"] = args.momentum * state["vb"] + sum(errors) / len(xs)
    state["w"] -= args.lr * state["vw"]
    state["b"] -= args.lr * state["vb"]
    loss = sum(e * e for e in errors) / len(xs)
    with open(f"{args.out}/metrics.jsonl", "a") as file:
        file.write(json.dumps({"epoch": epoch, "loss": loss, "weights": {"w": state["w"]}}) + "\n")
    state["epoch"] = epoch + 1
    with open(checkpoint + ".new", "wb") as file:
        pickle.dump(state, file)
    os.replace(checkpoint + ".new", checkpoint)
