"""Template: a command line with placeholders, and the words that it becomes for one trial.

    python train.py --lr {lr} --out {folder}

A placeholder stands for one value inside one word of the command line: a value is never split, and
no shell reads it. `{{` and `}}` are braces. With `args`, the values follow the command by
themselves: as `--lr 0.1` for argparse, as `lr=0.1` for Hydra.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from local_machine.errors import InputError, nearest
from trial_records.fields.sections import leaves

Args = Literal["placeholders", "argparse", "hydra"]

# What every attempt has beside the values.
OF_ATTEMPT = ("folder", "nnodes", "node_rank", "nproc_per_node", "master_addr", "master_port")
RESUME = "resume"
"""Where the words stand that have a program go on, in a command that has such words."""
_PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_IN_SHELL = re.compile(r"\$\{|\{\{|\}\}|\{([A-Za-z_][\w.\-]*)\}")
_HYDRA_PLAIN = re.compile(r"[A-Za-z0-9_./:+\-]+")


@dataclass(frozen=True)
class Template:
    """A command line as it was written."""

    text: str
    args: Args = "placeholders"
    shell: bool = False
    """Whether /bin/sh reads the text; values are quoted for it."""

    @property
    def words(self) -> list[str]:
        """Raises InputError where a quote is not closed, or where there is no word."""
        if self.shell:
            return ["/bin/sh", "-c", self.text]
        try:
            words = shlex.split(self.text)
        except ValueError as error:
            raise InputError(
                f"the command {self.text!r} cannot be split into words: {error}",
                "close the quote, or give a list of words: command=[...]",
            ) from None
        if not words:
            raise InputError("the command is empty", 'command="python train.py --lr {lr}"')
        return words

    @property
    def name(self) -> str:
        """What tells it from every other command: part of a trial's identity."""
        ending = "" if self.args == "placeholders" else f" {{{self.args}}}"
        return f"{'sh: ' if self.shell else ''}{self.text}{ending}"

    def check(self, fields: Iterable[str], seed: str | None, *, resumes: bool = False) -> None:
        """Raises InputError where a placeholder has no value, or a value no placeholder; the seed
        needs none, since SWEEPS_SEED holds it."""
        known, used = list(fields), self.placeholders
        if taken := [name for name in known if name in OF_ATTEMPT]:
            raise InputError(
                f"a value is called {taken[0]!r}, as is what each attempt has of its own",
                f"give it another name: my_{taken[0]}",
            )
        self.check_known([*known, RESUME] if resumes else known)
        if self.args == "placeholders":
            unused = [name for name in known if name not in used and name != seed]
            if unused:
                raise InputError(
                    f"the command does not use the value {unused[0]!r}, so it would change nothing",
                    f"add it, such as --{unused[0]} {{{unused[0]}}}, or have all values added: "
                    'args="argparse" (--args argparse) or args="hydra"',
                )

    def check_known(self, known: Iterable[str], what: str = "the command") -> None:
        """Raises InputError where a placeholder has no value."""
        names = list(dict.fromkeys([*known, *OF_ATTEMPT]))
        for name in self.placeholders:
            if name not in names:
                raise InputError(
                    f"{what} has a placeholder {{{name}}}, and there is no value {name!r}",
                    f"{nearest(name, names)}; write {{{{ and }}}} for braces",
                )

    def fill(
        self,
        values: Mapping[str, Any],
        of_attempt: Mapping[str, Any],
        more: str | None = None,
        place: Callable[[str], str] = str,
    ) -> list[str]:
        """The words of one trial's command, and of `more`, which stands for {resume} or follows
        it. `place` is asked for each word without a placeholder what it is here. Raises InputError
        for a value that has no text."""
        flat = leaves(values)
        given = {**flat, **of_attempt}
        added = Template(more)._filled(given) if more else []
        if RESUME in self.placeholders and RESUME not in flat:
            given[RESUME], rest = tuple(added), self._rest(flat)
        else:
            rest = self._rest(flat) + added
        if self.shell:
            text = self._replaced(self.text, lambda name: _for_shell(name, given[name]))
            return ["/bin/sh", "-c", text + "".join(f" {shlex.quote(word)}" for word in rest)]
        return self._filled(given, place) + rest

    def _filled(self, given: Mapping[str, Any], place: Callable[[str], str] = str) -> list[str]:
        words: list[str] = []
        for word in self.words:
            if word == f"{{{RESUME}}}" and isinstance(given.get(RESUME), tuple):
                words += given[RESUME]
            elif not {"{", "}"} & set(word):
                words.append(place(word))
            else:
                words.append(self._replaced(word, lambda name: _plain(name, given[name])))
        return words

    def _rest(self, flat: Mapping[str, Any]) -> list[str]:
        """The words for the values that no placeholder uses."""
        rest = {name: value for name, value in flat.items() if name not in self.placeholders}
        if self.args == "argparse":
            return [word for name, value in rest.items() for word in _for_argparse(name, value)]
        if self.args == "hydra":
            return [f"{name}={_for_hydra(value)}" for name, value in rest.items()]
        return []

    @property
    def placeholders(self) -> list[str]:
        """The names in braces. Raises InputError as `words` does."""
        found: list[str] = []

        def note(name: str) -> str:
            found.append(name)
            return ""

        for word in [self.text] if self.shell else self.words:
            self._replaced(word, note)
        return found

    def _replaced(self, text: str, value: Callable[[str], str]) -> str:
        def one(part: re.Match[str]) -> str:
            if part[1]:
                return value(part[1])
            if part[0] in ("{{", "}}"):
                return part[0][0]
            if self.shell:
                return part[0]  # ${NAME} is the shell's
            raise InputError(
                f"the command has {part[0]!r} in {text!r}, which is not a placeholder",
                "write {name} for a value, and {{ and }} for braces",
            )

        return (_IN_SHELL if self.shell else _PART).sub(one, text)


def _for_shell(name: str, value: Any) -> str:
    return (
        shlex.join(value)
        if name == RESUME and isinstance(value, tuple)
        else shlex.quote(_text(name, value))
    )


def _plain(name: str, value: Any) -> str:
    """{resume} inside a word is in a command within the command."""
    return shlex.join(value) if name == RESUME and isinstance(value, tuple) else _text(name, value)


def _text(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ",".join(_text(name, one) for one in value)
    if value is None:
        raise InputError(
            f"{name} is None, which a placeholder cannot say",
            'give it a value, or use args="argparse", which leaves it out',
        )
    return repr(value) if isinstance(value, float) else str(value)


def _for_argparse(name: str, value: Any) -> list[str]:
    """True is a flag, False and None are left out, a list is several words."""
    if value is None or value is False:
        return []
    if value is True:
        return [f"--{name}"]
    if isinstance(value, list | tuple):
        return [f"--{name}", *(_text(name, one) for one in value)]
    text = _text(name, value)
    # argparse takes a word that begins with "-" and is not a number for an option.
    return [f"--{name}={text}"] if text.startswith("-") else [f"--{name}", text]


def _for_hydra(value: Any) -> str:
    """As Hydra's grammar of overrides has it."""
    if value is None:
        return "null"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_for_hydra, value))}]"
    if isinstance(value, str):
        words = ("null", "true", "false", "nan", "inf", "yes", "no", "on", "off")
        if _HYDRA_PLAIN.fullmatch(value) and value.lower() not in words and not _is_number(value):
            return value
        escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)
        escaped = re.sub(r"(\\+)$", r"\1\1", escaped)
        return f"'{escaped}'"
    return _text("", value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
