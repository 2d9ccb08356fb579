from sweeps import Sweep, grid, minimize

sweep = Sweep(
    command="python train.py --num-leaves {num_leaves} --rounds {rounds} --out {folder}",
    base={"num_leaves": 7, "rounds": 12},
    space=grid({"num_leaves": [7, 15]}),
    metrics="metrics.jsonl",
    objective=minimize("val_loss"),
    budget_field="rounds",
    done="model.txt",  # written at the end
)
