"""Draws 180 small images as a stand-in for your own: discs, squares and stripes, in folders that
are named by their class. `python make_images.py FOLDER`"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 32


def drawn(kind, random):
    y, x = np.mgrid[:SIZE, :SIZE]
    (row, column), radius = random.integers(10, SIZE - 10, 2), random.integers(5, 10)
    if kind == "disc":
        shape = (y - row) ** 2 + (x - column) ** 2 < radius**2
    elif kind == "square":
        shape = np.maximum(abs(y - row), abs(x - column)) < radius
    else:
        shape = (x + row) % (radius * 2) < radius
    image = random.integers(0, 80, (SIZE, SIZE, 3))
    image[shape] += random.integers(60, 170, 3)
    return Image.fromarray(image.astype(np.uint8))


def main(root):
    random = np.random.default_rng(0)
    for part, count in (("train", 40), ("test", 20)):
        for kind in ("disc", "square", "stripes"):
            folder = root / part / kind
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                drawn(kind, random).save(folder / f"{number:03}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
