"""REINFORCE (Williams 1992) on a pole on a cart (Barto, Sutton and Anderson 1983), 32 at once.

It has no epochs: a row is of a step, which is one update of the policy.
"""

import math

import torch
from torch import nn

CARTS, LENGTH, SAVE_EVERY = 32, 100, 5


def pushed(state, right):
    """The carts 0.02 s later: position (m), speed (m/s), angle (rad), angular speed (rad/s)."""
    _, speed, angle, turn = state.unbind(1)
    force = torch.where(right, 10.0, -10.0)
    sine, cosine = angle.sin(), angle.cos()
    # A cart of 1 kg and a pole of 0.1 kg, whose centre is 0.5 m away.
    inner = (force + 0.05 * turn**2 * sine) / 1.1
    twist = (9.8 * sine - cosine * inner) / (0.5 * (4 / 3 - 0.1 * cosine**2 / 1.1))
    push = inner - 0.05 * twist * cosine / 1.1
    changes = torch.stack([speed, push, turn, twist], 1)
    return state + 0.02 * changes


def train(config, run):
    torch.manual_seed(config["seed"])
    policy = nn.Sequential(nn.Linear(4, config["width"]), nn.Tanh(), nn.Linear(config["width"], 1))
    optimizer = torch.optim.Adam(policy.parameters(), lr=config["lr"])
    state = run.load()
    if state is not None:
        policy.load_state_dict(state["policy"])
        optimizer.load_state_dict(state["optimizer"])
    for step in range(state["step"] if state else 0, config["steps"]):
        carts = 0.1 * torch.rand(CARTS, 4) - 0.05
        stands, chances, rewards = torch.ones(CARTS, dtype=torch.bool), [], []
        for _ in range(LENGTH):
            to_right = torch.distributions.Bernoulli(logits=policy(carts).squeeze(1))
            action = to_right.sample()
            chances.append(to_right.log_prob(action) * stands)
            carts = pushed(carts, action.bool())
            stands = stands & (carts[:, 0].abs() < 2.4) & (carts[:, 2].abs() < math.radians(12))
            rewards.append(stands.float())
        rewards = torch.stack(rewards)
        to_come = rewards.flip(0).cumsum(0).flip(0)
        loss = -(torch.stack(chances) * (to_come - to_come.mean(1, keepdim=True))).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(step=step, mean_return=rewards.sum(0).mean(), loss=loss)
        if (step + 1) % SAVE_EVERY == 0:
            saved = {"policy": policy.state_dict(), "optimizer": optimizer.state_dict()}
            run.save({"step": step + 1, **saved})


train.is_exact = True
