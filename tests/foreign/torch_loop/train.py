import time

import torch
from torch import nn


def train(config, run):  # changed: was main(config)
    torch.manual_seed(config["seed"])
    x = torch.randn(256, 8)
    y = x.square().sum(1, keepdim=True)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=0.9)
    state = run.load() or {"epoch": 0}  # changed: was torch.load("last.pt"), where it exists
    if "model" in state:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    for epoch in range(state["epoch"], config["epochs"]):
        with open(run.folder / "begun.txt", "a") as file:
            file.write(f"{epoch}\n")
        time.sleep(0.1)
        loss = nn.functional.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(epoch=epoch, loss=loss)  # changed: was print(epoch, loss)
        state = {
            "epoch": epoch + 1,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
        }
        run.save(state)  # changed: was torch.save(state, "last.pt")
