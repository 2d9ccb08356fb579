"""A Hydra app as it was before anybody swept it: it works in the folder of its run, writes a CSV
there, and goes on from its checkpoint where it finds one."""

import csv
from pathlib import Path

import hydra
import torch
from sklearn.datasets import load_digits
from torch import nn


@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(config):
    images, labels = load_digits(return_X_y=True)
    images, labels = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
    torch.manual_seed(config.seed)
    model = nn.Sequential(nn.Linear(64, config.width), nn.ReLU(), nn.Linear(config.width, 10))
    chosen, lr, momentum = config.optimizer.name, config.optimizer.lr, config.optimizer.momentum
    if chosen == "adam":
        optimizer = torch.optim.Adam(model.parameters(), lr=lr, betas=(momentum, 0.999))
    else:
        optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)
    checkpoint, first = Path("last.pt"), 0
    if checkpoint.exists():
        state = torch.load(checkpoint)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["generator"])
        first = state["epoch"]

    for epoch in range(first, config.epochs):
        for batch in torch.randperm(1500).split(100):
            loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            right = (model(images[1500:]).argmax(1) == labels[1500:]).float().mean()
        is_new = not Path("metrics.csv").exists()
        with Path("metrics.csv").open("a", newline="") as file:
            writer = csv.writer(file)
            if is_new:
                writer.writerow(["epoch", "loss", "val_accuracy"])
            writer.writerow([epoch, loss.item(), right.item()])
        state = {
            "epoch": epoch + 1,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "generator": torch.get_rng_state(),
        }
        torch.save(state, "last.pt.new")
        Path("last.pt.new").rename(checkpoint)


if __name__ == "__main__":
    main()
