from sweeps import Sweep, grid, minimize

sweep = Sweep(
    command="bash run.sh {lr} {epochs} {folder} {nnodes} {node_rank} {nproc_per_node} "
    "{master_addr} {master_port}",
    processes="per_node",  # torchrun starts the ranks of a node itself
    base={"lr": 0.01, "epochs": 12},
    space=grid({"lr": [0.01, 0.05]}),
    metrics="metrics.jsonl",
    objective=minimize("loss"),
)
