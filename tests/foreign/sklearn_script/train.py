import os
import sys
import time

import joblib
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split

alpha, epochs, out = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
x, y = load_digits(return_X_y=True)
x, x_val, y, y_val = train_test_split(x / 16, y, random_state=0)
path = f"{out}/model.joblib"
first, model = 0, SGDClassifier(alpha=alpha, random_state=0)
if os.path.exists(path):
    first, model = joblib.load(path)

for epoch in range(first, epochs):
    with open(f"{out}/begun.txt", "a") as file:
        file.write(f"{epoch}\n")
    time.sleep(0.1)
    model.partial_fit(x, y, classes=range(10))
    is_new = not os.path.exists(f"{out}/metrics.csv")
    with open(f"{out}/metrics.csv", "a") as file:
        file.write("epoch,val_accuracy\n" * is_new + f"{epoch},{model.score(x_val, y_val)}\n")
    joblib.dump((epoch + 1, model), path + ".new")
    os.replace(path + ".new", path)
