"""Program: the command line by which a training script is launched, from its syntax tree alone."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path
from typing import Any

# So many of its options stand in the example.
_SHOWN = 5
_FOLDERS = re.compile(r"out|output|save|log|logging|checkpoint|ckpt|results?|run|work|exp")


def example(path: Path, tree: ast.Module, command: str) -> str:
    """What to type to launch a script that is not a definition, with the options that it has."""
    options = _options(tree)
    is_hydra = "hydra" in _imported(tree)
    given, words = [f"--name {shlex.quote(path.stem)}"], [f"python {shlex.quote(str(path))}"]
    given += ["--args hydra"] * is_hydra
    varied = False
    for option, default in list(options.items())[:_SHOWN]:
        name = option.lstrip("-").replace("-", "_")
        if _is_folder(name):
            words.append(f"{option} {{folder}}")
        elif name == "seed":
            words.append(f"{option} {{seed}}")
        else:
            if not varied and (default is None or type(default) in (int, float)):
                given.append(_varied(name, default, command))
                varied = True
            elif default is None:
                continue  # whether it is needed, nobody knows
            else:
                given.append(f"--set {shlex.quote(f'{name}={default}')}")
            words.append(f"{option} {{{name}}}")
    if not varied:
        given.insert(1, _varied("lr", 0.1, command))
        words += [] if is_hydra else ["--lr {lr}"]
    given += ["--metrics metrics.jsonl", "--minimize loss"]
    return f"python -m {command} {' '.join(given)} -- {' '.join(words)}"


def _varied(name: str, default: Any, command: str) -> str:
    if command.endswith("search"):
        return f"--float {name}=1e-4..1:log" if type(default) is not int else f"--int {name}=1..8"
    if type(default) is int and default:
        return f"--grid {name}={default},{2 * default}"
    if type(default) is float and default:
        return f"--grid {name}={default!r},{default / 10:g}"
    return f"--grid {name}=VALUE,VALUE"


def _is_folder(name: str) -> bool:
    words = name.lower().split("_")
    return words[-1] in ("dir", "folder", "out", "output") and (
        len(words) == 1 or _FOLDERS.fullmatch(words[0]) is not None
    )


def _options(tree: ast.Module) -> dict[str, Any]:
    """The options that its calls of add_argument (or of click's and typer's option) name, each with
    its default; None where it has none that is a plain value."""
    found: dict[str, Any] = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if called not in ("add_argument", "option", "Option"):
            continue
        texts = [
            one.value
            for one in node.args
            if isinstance(one, ast.Constant) and isinstance(one.value, str)
        ]
        named = next((text for text in texts if re.fullmatch(r"--[A-Za-z][\w-]*", text)), None)
        more = {one.arg: one.value for one in node.keywords}
        # A flag takes no value.
        if named is not None and not {"action", "is_flag"} & more.keys():
            default = more.get("default")
            found[named] = default.value if isinstance(default, ast.Constant) else None
    return found


def _imported(tree: ast.Module) -> set[str]:
    """The packages that it imports, anywhere."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found
