"""A generator and a discriminator of scikit-learn's digits, each with an optimizer of its own."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

NOISE, BATCH = 16, 128


def train(config, run):
    torch.manual_seed(config["seed"])
    real = torch.tensor(load_digits().data / 8 - 1, dtype=torch.float32)
    width = config["width"]
    generator = nn.Sequential(nn.Linear(NOISE, width), nn.ReLU(), nn.Linear(width, 64), nn.Tanh())
    discriminator = nn.Sequential(nn.Linear(64, width), nn.LeakyReLU(0.2), nn.Linear(width, 1))
    parts = {
        "generator": generator,
        "discriminator": discriminator,
        "generator_adam": torch.optim.Adam(
            generator.parameters(), lr=config["generator_lr"], betas=(0.5, 0.999)
        ),
        "discriminator_adam": torch.optim.Adam(
            discriminator.parameters(), lr=config["discriminator_lr"], betas=(0.5, 0.999)
        ),
    }
    state = run.load()
    if state is not None:
        for name, part in parts.items():
            part.load_state_dict(state[name])

    def step(name, loss):
        parts[name].zero_grad()
        loss.backward()
        parts[name].step()

    ones, zeros = torch.ones(BATCH, 1), torch.zeros(BATCH, 1)
    for epoch in range(state["epoch"] if state else 0, config["epochs"]):
        for batch in torch.randperm(len(real)).split(BATCH)[:-1]:
            drawn = generator(torch.randn(BATCH, NOISE))
            on_real = binary_cross_entropy_with_logits(discriminator(real[batch]), ones)
            on_drawn = binary_cross_entropy_with_logits(discriminator(drawn.detach()), zeros)
            step("discriminator_adam", on_real + on_drawn)
            fooled = binary_cross_entropy_with_logits(discriminator(drawn), ones)
            step("generator_adam", fooled)
        with torch.no_grad():
            drawn = generator(torch.randn(1024, NOISE))
        run.log(
            epoch=epoch,
            discriminator_loss=on_real + on_drawn,
            generator_loss=fooled,
            distance=frechet(real, drawn),
        )
        run.save({"epoch": epoch + 1, **{name: one.state_dict() for name, one in parts.items()}})


train.is_exact = True


def frechet(a, b):
    """The squared Frechet distance of two sets of images, each pixel taken as normal."""
    means, deviations = a.mean(0) - b.mean(0), a.std(0) - b.std(0)
    return means.square().sum() + deviations.square().sum()
