import csv
import json
import os
import time

import hydra


@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(config):
    state = {"epoch": 0, "x": 5.0}
    if os.path.exists("state.json"):  # the working directory is the run's
        with open("state.json") as file:
            state = json.load(file)
    for epoch in range(state["epoch"], config.epochs):
        with open("begun.txt", "a") as file:
            file.write(f"{epoch}\n")
        time.sleep(0.1)
        gradient = 2 * state["x"]
        if config.optimizer.name == "sign":
            gradient = 1 if gradient > 0 else -1
        state = {"epoch": epoch + 1, "x": state["x"] - config.optimizer.lr * gradient}
        is_new = not os.path.exists("metrics.csv")
        with open("metrics.csv", "a", newline="") as file:
            writer = csv.DictWriter(file, ["epoch", "val_loss"])
            if is_new:
                writer.writeheader()
            writer.writerow({"epoch": epoch, "val_loss": state["x"] ** 2})
        with open("state.json.new", "w") as file:
            json.dump(state, file)
        os.replace("state.json.new", "state.json")


if __name__ == "__main__":
    main()
