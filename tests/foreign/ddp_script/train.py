import os
import sys
import time

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

lr, epochs, out = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
dist.init_process_group(
    "gloo"
)  # RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, as torchrun sets them
rank, world = dist.get_rank(), dist.get_world_size()
torch.manual_seed(0)
model = DistributedDataParallel(torch.nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
x = torch.randn(256, 8, generator=torch.Generator().manual_seed(rank))
first = 0
if os.path.exists(f"{out}/last.pt"):
    state = torch.load(f"{out}/last.pt")
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    first = state["epoch"]

for epoch in range(first, epochs):
    if rank == 0:
        with open(f"{out}/begun.txt", "a") as file:
            file.write(f"{epoch}\n")
    time.sleep(0.1)
    loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    mean = loss.detach() / world
    dist.all_reduce(mean)
    if rank == 0:
        is_new = not os.path.exists(f"{out}/metrics.csv")
        with open(f"{out}/metrics.csv", "a") as file:
            file.write("epoch,loss\n" * is_new + f"{epoch},{mean.item()}\n")
        state = {
            "epoch": epoch + 1,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
        }
        torch.save(state, f"{out}/last.pt.new")
        os.replace(f"{out}/last.pt.new", f"{out}/last.pt")
    dist.barrier()  # no rank goes on before the checkpoint is there
dist.destroy_process_group()
