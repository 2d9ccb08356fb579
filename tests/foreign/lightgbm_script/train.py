import argparse
import json
import time

import lightgbm as lgb
import numpy as np

parser = argparse.ArgumentParser()
parser.add_argument("--num-leaves", type=int)
parser.add_argument("--rounds", type=int)
parser.add_argument("--out")
args = parser.parse_args()
random = np.random.default_rng(0)
x = random.normal(size=(500, 5))
y = x[:, 0] * x[:, 1] + 0.1 * random.normal(size=500)
train = lgb.Dataset(x[:400], y[:400])
val = lgb.Dataset(x[400:], y[400:], reference=train)


def report(env):
    with open(f"{args.out}/begun.txt", "a") as file:
        file.write(f"{env.iteration}\n")
    time.sleep(0.1)
    loss = env.evaluation_result_list[0][2]
    with open(f"{args.out}/metrics.jsonl", "a") as file:
        file.write(json.dumps({"step": env.iteration, "val_loss": loss}) + "\n")


lgb.train(
    {"objective": "l2", "num_leaves": args.num_leaves, "num_threads": 1, "verbose": -1},
    train,
    num_boost_round=args.rounds,
    valid_sets=[val],
    callbacks=[report],
).save_model(f"{args.out}/model.txt")
