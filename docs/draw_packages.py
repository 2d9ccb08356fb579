"""Draws docs/packages.svg: the packages and their folders, with an arrow for who imports whom.

    python docs/draw_packages.py

Everything stands above what it imports, as far as that can be; an arrow that another way down says
already is left out. An import that leads upwards is red and dashed. The contract of tasks has its
own frame: `trainer` stands on it, and what comes with `sweeps` stands on `trainer`.
"""

from __future__ import annotations

import ast
import functools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "packages.svg"
PACKAGES = ("sweeps", "analysis", "trainer", "slurm", "trial_records", "local_machine")
CONTRACT = "sweeps: the contract"
IN_CONTRACT = ("sweeps/run", "sweeps/task")

Edges = Counter[tuple[str, str]]
"""How often the first imports the second."""

# In pixels. A letter is as wide as DejaVu Sans draws it at 12 px, and wider than most fonts do.
LETTER, PADDING, HEIGHT, GAP, ROW = 7.4, 20, 26, 18, 62
STYLE = """
text { font: 12px sans-serif; text-anchor: middle; fill: #222 }
.title { font-weight: bold; text-anchor: start }
.frame { fill: #f4f6f8; stroke: #9aa5b1 }
.box { fill: #fff; stroke: #5b6b7b }
.down { fill: none; stroke: #5b6b7b; marker-end: url(#down) }
.up { fill: none; stroke: #c22; stroke-dasharray: 5 3; marker-end: url(#up) }
"""


def folder_of(module: str) -> str:
    """`sweeps/state` for what lies in a folder of a package, and for a file that such a folder of
    its own package imports (`trainer/config`); else the package."""
    parts = module.split(".")
    place = "/".join(parts[:2]) if len(parts) > 1 else f"{parts[0]}/__init__"
    return place if ROOT.joinpath(*parts[:2]).is_dir() or place in ground_files() else parts[0]


@functools.cache
def ground_files() -> frozenset[str]:
    """The files directly in a package that one of its folders stands on."""
    every = [path for package in PACKAGES for path in modules(package)]
    found: set[str] = set()
    # What a folder imports, and in turn what that imports.
    new = {path for path in every if len(path.relative_to(ROOT).parts) > 2}
    while new:
        names = {name for path in new for name in own_files(path)} - found
        found |= names
        new = {path for path in every if module_of(path).replace(".", "/") in names}
    return frozenset(found)


def frame_of(node: str) -> str:
    return CONTRACT if node in IN_CONTRACT else node.partition("/")[0]


def own_files(path: Path) -> Iterator[str]:
    """Which files directly in its own package a module imports."""
    for parts in (other.split(".") for other in imported(path)):
        is_file = not parts[1:] or not ROOT.joinpath(*parts[:2]).is_dir()
        if parts[0] == path.relative_to(ROOT).parts[0] and is_file:
            yield "/".join([*parts, "__init__"][:2])


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Every module of ours that the file imports when it runs, at any depth."""
    tree = ast.parse(path.read_text())
    for_types = {
        node
        for guard in ast.walk(tree)
        if isinstance(guard, ast.If) and "TYPE_CHECKING" in ast.unparse(guard.test)
        for node in ast.walk(guard)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or node in for_types:
            continue
        module = node.module or ""
        for alias in node.names if module.partition(".")[0] in PACKAGES else ():
            place = ROOT.joinpath(*module.split("."), alias.name)
            is_module = place.is_dir() or place.with_suffix(".py").exists()
            yield f"{module}.{alias.name}" if is_module else module


def imports_of_folders() -> Edges:
    edges: Edges = Counter()
    for package in PACKAGES:
        for path in modules(package):
            own = folder_of(module_of(path))
            edges.update((own, folder_of(other)) for other in imported(path))
    return Counter({(a, b): count for (a, b), count in edges.items() if a != b})


def in_order(nodes: Iterable[str], edges: Edges) -> list[str]:
    """From the top down, with few imports that lead upwards: always next is who imports most of
    what is left and is imported least (Eades, Lin and Smyth 1993, without their sinks first)."""
    left, found = sorted(nodes), []

    def surplus(node: str) -> int:
        return sum(edges[node, other] - edges[other, node] for other in left)

    while left:
        # A node that nothing imports any more comes before all others.
        free = [one for one in left if not any(edges[other, one] for other in left)]
        found.append(max(free or left, key=surplus))
        left.remove(found[-1])
    return found


def floors(order: list[str], edges: Edges) -> dict[str, int]:
    """0 at the bottom: one above the highest of what a node imports downwards."""
    found: dict[str, int] = {}
    for node in reversed(order):
        found[node] = 1 + max((found[one] for one in found if edges[node, one]), default=-1)
    return found


def without_implied(edges: Edges, order: list[str]) -> list[tuple[str, str]]:
    """The imports that lead down the order, without those that a longer way says already."""
    rank = {node: place for place, node in enumerate(order)}
    below: dict[str, set[str]] = {}
    kept = []
    for node in reversed(order):
        below[node] = set()
        nexts = [one for one in order if edges[node, one] and rank[one] > rank[node]]
        for other in nexts:  # the highest first
            if other not in below[node]:
                kept.append((node, other))
                below[node] |= {other} | below[other]
    return kept


def upwards(edges: Edges, order: list[str]) -> list[tuple[str, str]]:
    return sorted(
        (a, b) for a, b in edges if a in order and b in order and order.index(a) > order.index(b)
    )


@dataclass
class Box:
    label: str
    x: float
    y: float
    width: float
    height: float

    def moved(self, x: float, y: float) -> Box:
        return Box(self.label, self.x + x, self.y + y, self.width, self.height)


@dataclass
class Drawing:
    """Boxes by node, in rows by floor, and the arrows between them."""

    boxes: dict[str, Box]
    down: list[tuple[str, str]]
    up: list[tuple[str, str]]

    @classmethod
    def of(cls, sizes: dict[str, tuple[float, float]], edges: Edges, gap: float) -> Drawing:
        order = in_order(sizes, edges)
        floor = floors(order, edges)
        rows = [[one for one in order if floor[one] == number] for number in set(floor.values())]
        widths = [sum(sizes[one][0] for one in row) + gap * (len(row) - 1) for row in rows]
        boxes, y = {}, 0.0
        for row, width in reversed(list(zip(rows, widths, strict=True))):
            x = (max(widths) - width) / 2
            for one in row:
                boxes[one] = Box(one, x, y, *sizes[one])
                x += sizes[one][0] + gap
            y += max(sizes[one][1] for one in row) + ROW - HEIGHT
        return cls(boxes, without_implied(edges, order), upwards(edges, order))

    @property
    def size(self) -> tuple[float, float]:
        boxes = self.boxes.values()
        return max(one.x + one.width for one in boxes), max(one.y + one.height for one in boxes)

    def arrows(self, x: float, y: float) -> Iterator[str]:
        for kind, pairs in (("down", self.down), ("up", self.up)):
            for a, b in pairs:
                yield arrow(kind, self.boxes[a].moved(x, y), self.boxes[b].moved(x, y))


def arrow(kind: str, a: Box, b: Box) -> str:
    """From the edge of the one box to the nearer edge of the other."""
    x1, x2 = a.x + a.width / 2, b.x + b.width / 2
    if kind == "up":  # beside the arrow that leads down
        x1, x2 = x1 + 12, x2 + 12
    y1, y2 = (a.y + a.height, b.y) if a.y < b.y else (a.y, b.y + b.height)
    middle = (y1 + y2) / 2
    curve = f"M{x1:.0f} {y1:.0f}C{x1:.0f} {middle:.0f} {x2:.0f} {middle:.0f} {x2:.0f} {y2:.0f}"
    return f'<path class="{kind}" d="{curve}"/>'


def inside(nodes: Iterable[str], edges: Edges) -> Drawing:
    """The folders of a frame, the files that they stand on, and its other files as one box."""
    sizes = {node: (LETTER * len(label(node)) + PADDING, float(HEIGHT)) for node in nodes}
    return Drawing.of(sizes, edges, GAP)


def label(node: str) -> str:
    package, _, place = node.partition("/")
    return f"{place}.py" if node in ground_files() else place or f"{package}/*.py"


def draw() -> str:
    """The picture, as SVG: the same text wherever the imports are the same."""
    edges = imports_of_folders()
    nodes = {folder_of(module_of(path)) for package in PACKAGES for path in modules(package)}
    drawings = {
        frame: inside([node for node in nodes if frame_of(node) == frame], edges)
        for frame in (*PACKAGES, CONTRACT)
    }
    sizes = {
        frame: (
            max(drawing.size[0], LETTER * len(frame)) + 2 * PADDING,
            drawing.size[1] + 2 * PADDING + 16,
        )
        for frame, drawing in drawings.items()
    }
    between: Edges = Counter()
    for (a, b), count in edges.items():
        between[frame_of(a), frame_of(b)] += count
    for frame in drawings:
        del between[frame, frame]
    whole = Drawing.of(sizes, between, 3 * GAP)
    parts = list(whole.arrows(PADDING, PADDING))
    for frame, drawing in drawings.items():
        around = whole.boxes[frame].moved(PADDING, PADDING)
        parts.append(rectangle("frame", around))
        parts.append(f'<text class="title" x="{around.x + 10:.0f}" y="{around.y + 18:.0f}">{frame}'
                     "</text>")  # fmt: skip
        x, y = around.x + PADDING, around.y + PADDING + 16
        parts += drawing.arrows(x, y)
        for node, box in drawing.boxes.items():
            at = box.moved(x, y)
            parts.append(rectangle("box", at))
            middle = at.x + at.width / 2
            parts.append(f'<text x="{middle:.0f}" y="{at.y + 17:.0f}">{label(node)}</text>')
    width, height = (one + 2 * PADDING for one in whole.size)
    markers = "".join(
        f'<marker id="{kind}" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" '
        f'orient="auto"><path d="M0 0L8 4L0 8z" fill="{colour}"/></marker>'
        for kind, colour in (("down", "#5b6b7b"), ("up", "#c22"))
    )
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}">\n'
        f"<style>{STYLE}</style>\n<defs>{markers}</defs>\n"
        f'<rect width="100%" height="100%" fill="#fff"/>\n{body}\n</svg>\n'
    )


def rectangle(kind: str, box: Box) -> str:
    return (
        f'<rect class="{kind}" x="{box.x:.0f}" y="{box.y:.0f}" width="{box.width:.0f}" '
        f'height="{box.height:.0f}" rx="4"/>'
    )


if __name__ == "__main__":
    PICTURE.write_text(draw())
    print(PICTURE)
