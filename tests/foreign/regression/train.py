import os
import sys
import time

import numpy as np

degree, ridge, epochs, out = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
random = np.random.default_rng(0)
t = random.uniform(-1, 1, 120)
y = np.sin(3 * t) + 0.1 * random.normal(size=120)
x = np.vander(t, degree + 1)
w = np.zeros(degree + 1)
with open(f"{out}/metrics.csv", "w") as file:  # it has no checkpoint: it starts over each time
    file.write("epoch,val_rmse\n")

for epoch in range(epochs):
    with open(f"{out}/begun.txt", "a") as file:
        file.write(f"{epoch}\n")
    time.sleep(0.1)
    for _ in range(200):
        w -= 0.3 * (x[:80].T @ (x[:80] @ w - y[:80]) / 80 + ridge * w)
    rmse = np.sqrt(np.mean((x[80:] @ w - y[80:]) ** 2))
    with open(f"{out}/metrics.csv", "a") as file:
        file.write(f"{epoch},{rmse}\n")
np.savetxt(f"{out}/predictions.txt.new", x[80:] @ w)
os.replace(f"{out}/predictions.txt.new", f"{out}/predictions.txt")
