"""Softmax regression on scikit-learn's digits, as a Hydra app in which no line is changed: it works
in the folder of its run, writes a CSV there, and goes on from its checkpoint where it finds one."""

import csv
from pathlib import Path

import hydra
import numpy as np
from sklearn.datasets import load_digits


@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(config):
    images, labels = load_digits(return_X_y=True)
    images, targets = images / 16, np.eye(10)[labels]
    state = {"epoch": 0, "weights": np.zeros((64, 10)), "first": 0.0, "second": 0.0, "steps": 0}
    checkpoint = Path("last.npz")
    if checkpoint.exists():
        state = dict(np.load(checkpoint))

    for epoch in range(int(state["epoch"]), config.epochs):
        order = np.random.default_rng([config.seed, epoch]).permutation(1500)
        for batch in np.split(order, 15):
            wrong = softmax(images[batch] @ state["weights"]) - targets[batch]
            gradient = images[batch].T @ wrong / len(batch) + config.l2 * state["weights"]
            state = stepped(config.optimizer, state, gradient)
        chances = softmax(images[1500:] @ state["weights"])
        accuracy = (chances.argmax(1) == labels[1500:]).mean()
        loss = -np.log((chances * targets[1500:]).sum(1)).mean()
        is_new = not Path("metrics.csv").exists()
        with Path("metrics.csv").open("a", newline="") as file:
            writer = csv.writer(file)
            if is_new:
                writer.writerow(["epoch", "val_loss", "val_accuracy"])
            writer.writerow([epoch, loss, accuracy])
        state["epoch"] = epoch + 1
        np.savez("new.npz", **state)
        Path("new.npz").rename(checkpoint)


def softmax(logits):
    chances = np.exp(logits - logits.max(1, keepdims=True))
    return chances / chances.sum(1, keepdims=True)


def stepped(optimizer, state, gradient):
    """The state after a step of SGD with momentum, or of Adam."""
    steps = state["steps"] + 1
    if optimizer.name == "sgd":
        first, second = optimizer.momentum * state["first"] + gradient, 0.0
        change = first
    else:
        first = 0.9 * state["first"] + 0.1 * gradient
        second = 0.999 * state["second"] + 0.001 * gradient**2
        change = first / (1 - 0.9**steps) / (np.sqrt(second / (1 - 0.999**steps)) + 1e-8)
    weights = state["weights"] - optimizer.lr * change
    return {**state, "weights": weights, "first": first, "second": second, "steps": steps}


if __name__ == "__main__":
    main()
