"""References to code by name, `FILE.py:NAME` and `MODULE:NAME`: one rule for tasks and for what a
configuration names of a person's own.

A file is run once a process, as a script is: modules beside it are found. What is written down of a
file is its whole path in the project, the same from any working directory and any code snapshot.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
import sysconfig
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from local_machine.code import snapshot
from local_machine.code.own_code import guarded, line_of, module_name, siblings
from local_machine.errors import InputError, printable
from local_machine.files import read_file


def place_of(reference: str) -> str:
    """The module or the file of a reference."""
    return reference.rpartition(":")[0]


def short(reference: str) -> str:
    """The file's or the module's name and its own, such as `mnist.train`."""
    place, _, name = reference.rpartition(":")
    return f"{Path(place).stem if place.endswith('.py') else place}.{name}"


def whole(reference: str) -> str:
    """The reference as it is written down: a file by its whole path, and so a module that lies in
    no package. A relative path is looked for in the working directory, then where modules are
    found, which for a definition is its own folder, too.

    Raises InputError for what is not a reference, and for a relative path that leads nowhere.
    """
    place, _, name = reference.rpartition(":")
    if not place or not name.isidentifier() or printable(reference) != reference:
        raise InputError(
            f"{reference!r} is not a reference to code", "write FILE.py:NAME or MODULE:NAME"
        )
    if not place.endswith(".py"):
        file = _alone(place)
        return reference if file is None else f"{snapshot.named(file)}:{name}"
    path = Path(place).expanduser()
    if not path.is_absolute():
        here = Path.cwd()
        found = (one / path for one in (here, *map(Path, sys.path)) if (one / path).is_file())
        if (file := next(found, None)) is None:
            raise InputError(
                f"{reference}: there is no file {path} in {here}",
                f"name it by its whole path: /FOLDER/{path.name}:{name}",
            )
        path = snapshot.named(file.resolve())
    return f"{os.path.normpath(path)}:{name}"


def _alone(module: str) -> Path | None:
    """The file of a module that lies in no package and is not installed."""
    if "." in module:
        return None
    file = _origin(module)
    is_file = file is not None and file.suffix == ".py" and file.name != "__init__.py"
    return file if file is not None and is_file and not is_installed(file) else None


def _origin(module: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    return None if spec is None or spec.origin is None else Path(spec.origin).resolve()


def is_installed(place: Path) -> bool:
    """Whether a module's place is one of installed packages, or of Python's own modules."""
    own = {Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")}
    return bool({"site-packages", "dist-packages"} & set(place.parts)) or any(
        place.is_relative_to(one) for one in own
    )


def code_of(reference: str) -> Path | None:
    """The package or the file that a reference leads to; None where nobody finds it."""
    place = place_of(reference)
    if place.endswith(".py"):
        return snapshot.found(Path(place)).resolve()
    file = _origin(place.partition(".")[0])
    return file.parent if file is not None and file.name == "__init__.py" else file


def places_of(named: Iterable[str]) -> tuple[Path, ...]:
    """The packages and files that references lead to, each once. Not installed ones, whose versions
    are known, nor those that nobody finds."""
    found = (code_of(one) for one in named)
    return tuple(dict.fromkeys(one for one in found if one is not None and not is_installed(one)))


def load(
    reference: str, called: str, of_file: Callable[[Path, str], object] | None = None
) -> object:
    """What a reference leads to; None where the module has no such name. `called` says in errors
    what it is for; `of_file` runs a file.

    Raises InputError where it cannot be imported.
    """
    place, colon, attribute = reference.rpartition(":")
    if not colon or not place or not attribute.isidentifier():
        raise InputError(
            f"{called} is named by {reference!r}",
            "name it by module:attribute or FILE.py:attribute",
        )
    if place.endswith(".py"):
        return _of_file(snapshot.found(Path(place)), attribute, called, of_file or _run)
    try:
        module = guarded(lambda: importlib.import_module(place), lambda _: called, "")
    except InputError as error:
        raise InputError(
            f"{called} cannot be imported from {place}: {error.what}",
            f"install what has the module {place.partition('.')[0]}, or add its folder to "
            "PYTHONPATH; workers import it as this process does",
        ) from error
    return getattr(module, attribute, None)


def load_callable(reference: str, called: str) -> Callable[..., Any]:
    """The function or the class that a reference leads to. Raises InputError."""
    try:
        found = load(reference, called)
    except InputError as error:
        named = error.what if called in error.what else f"{called}: {error.what}"
        raise InputError(named, error.help) from error
    place, _, name = reference.rpartition(":")
    if found is None:
        raise InputError(f"{called}: {place} has no {name!r}", f"define it there: def {name}(...)")
    if not callable(found):
        raise InputError(
            f"{called}: {name} of {place} is a {type(found).__name__}", "name a function or a class"
        )
    return found


def _of_file(path: Path, attribute: str, called: str, run: Callable[[Path, str], object]) -> object:
    """Of a file that is run once a process, since its classes are others each time."""
    for name in (module_name(path), _name_apart(path)):
        module = sys.modules.get(name)
        file = getattr(module, "__file__", None) or ""
        if path.is_file() and file and Path(file).resolve() == path.resolve():
            return getattr(module, attribute, None)
    try:
        return run(path, attribute)
    except FileNotFoundError:
        raise InputError(
            f"{called} is in {path}, which is not there",
            "put the file back, or launch the sweep again from where its file is now",
        ) from None


def _run(path: Path, attribute: str) -> object:
    source = read_file(path)
    name = module_name(path)
    module = ModuleType(_name_apart(path) if name in sys.modules else name)
    module.__file__ = str(path)

    def run() -> object:
        sys.modules[module.__name__] = module
        with siblings(path):
            exec(compile(source, str(path), "exec", dont_inherit=True), module.__dict__)
        return getattr(module, attribute, None)

    try:
        return guarded(run, lambda error: f"{path}{line_of(error, path)}", "")
    except InputError:
        sys.modules.pop(module.__name__, None)
        raise


def _name_apart(path: Path) -> str:
    """Of one of two files of equal name."""
    return f"{module_name(path)}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


def call(
    function: Callable[..., Any], first: tuple[Any, ...], offered: Mapping[str, Any], called: str
) -> Any:
    """Call a person's function with `first`, and, of what is offered, with the parameters that it
    declares by name. Raises InputError where it needs another, and for whatever it raises."""
    try:
        parameters = list(inspect.signature(function).parameters.values())[len(first) :]
    except (TypeError, ValueError):  # of a built-in
        parameters = []
    given = {one.name: offered[one.name] for one in parameters if one.name in offered}
    for one in parameters:
        is_open = one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
        if one.name not in offered and one.default is one.empty and not is_open:
            raise InputError(
                f"{called} has a parameter {one.name!r}, which nothing is known of",
                f"give it a default, or ask for one of: {', '.join(offered)}",
            )
    return guarded(lambda: function(*first, **given), lambda _: f"{called} fails", "")
