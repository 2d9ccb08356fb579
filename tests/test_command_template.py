"""A command line's placeholders: each value is one argument, whatever is in it."""

from __future__ import annotations

import argparse
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_machine.errors import InputError
from sweeps import Sweep, grid, minimize
from sweeps.command_task.template import Template

TEXTS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"))
HERE = {"folder": "/out"}


@given(TEXTS)
def test_a_value_is_one_argument(text: str) -> None:
    words = Template("run --name {name} --out={folder}/x {{}}").fill({"name": text}, HERE)
    assert words == ["run", "--name", text, "--out=/out/x", "{}"]


@given(TEXTS)
def test_a_shell_gets_a_value_as_one_word(text: str) -> None:
    words = Template('echo "${HOME}" {name}', shell=True).fill({"name": text}, HERE)
    assert words[:2] == ["/bin/sh", "-c"]
    import shlex

    assert shlex.split(words[2]) == ["echo", "${HOME}", text]


def test_a_shell_reads_nothing_of_a_value() -> None:
    template = Template("printf %s {name}", shell=True)
    hostile = "a'; echo hello; $(date) `date` \\ \" "
    done = subprocess.run(template.fill({"name": hostile}, HERE), capture_output=True, check=True)
    assert done.stdout.decode() == hostile


@given(
    st.dictionaries(
        st.sampled_from(["lr", "n", "name", "flag", "sizes"]),
        st.one_of(
            st.floats(allow_nan=False), st.integers(), st.booleans(), st.none(),
            st.text("ab -='\"", max_size=6).filter(lambda text: text != "--"),
            st.lists(st.integers(0, 9), min_size=1, max_size=3),
        ),
    )
)  # fmt: skip
def test_argparse_reads_back_what_was_given(values: dict[str, Any]) -> None:
    words = Template("run", "argparse").fill(values, HERE)
    parser = argparse.ArgumentParser()
    for name, value in values.items():
        if value is True or value is False:
            parser.add_argument(f"--{name}", action="store_true")
        elif isinstance(value, list):
            parser.add_argument(f"--{name}", type=int, nargs="+")
        else:
            parser.add_argument(f"--{name}", type=type(value) if value is not None else str)
    found = vars(parser.parse_args(words[1:]))
    assert found == values


def test_floats_come_back_exactly() -> None:
    assert Template("x {a}").fill({"a": 0.1 + 0.2}, HERE) == ["x", "0.30000000000000004"]
    assert Template("x {a}").fill({"a": 1e-05}, HERE) == ["x", "1e-05"]


def test_hydra() -> None:
    values = {"lr": 0.1, "model": {"name": "a b", "none": None, "on": True}, "sizes": [1, 2],
              "word": "true", "plain": "relu"}  # fmt: skip
    assert Template("python app.py", "hydra").fill(values, HERE) == [
        "python", "app.py", "lr=0.1", "model.name='a b'", "model.none=null", "model.on=true",
        "sizes=[1,2]", "word='true'", "plain=relu",
    ]  # fmt: skip


def refusal(command: Any = "run {lr}", base: Any = None, **options: Any) -> str:
    options = {"metrics": "m.jsonl", "objective": minimize("loss"), **options}
    with pytest.raises(InputError) as caught:
        Sweep(command=command, base={"lr": 0.1} if base is None else base, **options)
    return f"{caught.value.what}\n{caught.value.help}"


@pytest.mark.parametrize(
    ("said", "given"),
    [
        ("{lrr}, and there is no value 'lrr'\ndid you mean 'lr'", {"command": "x {lrr}"}),
        ("does not use the value 'wd'", {"base": {"lr": 0.1, "wd": 0.0}}),
        ("has '{' in 'a{'", {"command": "x {lr} a{"}),
        ("cannot be split into words", {"command": "x '{lr}"}),
        ("the command is empty", {"command": " "}),
        ("a value is called 'folder'", {"base": {"lr": 0.1, "folder": "x"}}),
        ("args is 'argprase'\ndid you mean 'argparse'", {"args": "argprase"}),
        ("nothing says where the command writes", {"metrics": None}),
        ("not a kind of file that can be read", {"metrics": "metrics.parquet"}),
        ("not in the program's folder", {"metrics": "/tmp/metrics.jsonl"}),
        ("not in the program's folder", {"metrics": "../metrics.jsonl"}),
        ("not a valid regular expression", {"metrics": "output: (?P<loss>[)"}),
        ("has no name in it", {"metrics": "output: loss"}),
        ("stop_signal is 'USR2'", {"stop_signal": "USR2"}),
        ("stop_signal is 'KIL'\n", {"stop_signal": "KIL"}),
        ("grace is -1", {"grace": -1}),
        ("without an objective", {"objective": None}),
        ("a command returns nothing", {"objective": minimize("loss", "final")}),
        ("budget_field is 'epochs'", {"budget_field": "epochs"}),
        ("done is '/x', which is not in the program's folder", {"done": "/x"}),
        ("unknown argument 'metric'\ndid you mean 'metrics'", {"metric": "x"}),
        ("command is a int", {"command": 3}),
        ("processes is 'node'", {"processes": "node"}),
    ],
)  # fmt: skip
def test_what_cannot_be_run_is_refused(said: str, given: dict[str, Any]) -> None:
    given = {name: value for name, value in given.items() if value is not None} | (
        {"metrics": given["metrics"]} if given.get("metrics") else {}
    )
    if said.startswith("nothing says"):
        with pytest.raises(InputError, match=said):
            Sweep(command="x {lr}", base={"lr": 0.1}, objective=minimize("loss"))
        return
    if "objective" in said:
        with pytest.raises(InputError, match=said):
            Sweep(command="x {lr}", base={"lr": 0.1}, metrics="m.csv")
        return
    assert said in refusal(**given)


def test_options_need_a_command() -> None:
    with pytest.raises(InputError, match="metrics is given without a command"):
        Sweep({"lr": 0.1}, metrics="m.jsonl")


def test_what_a_command_is_is_its_identity() -> None:
    def made(command: str, **options: Any) -> str:
        sweep = Sweep(
            command=command, space=grid({"lr": [0.1]}), metrics="m.jsonl",
            objective=minimize("loss"), **options,
        )  # fmt: skip
        assert sweep.task is not None
        return sweep.task.name

    names = [
        made("x {lr}"), made("x {lr} -v"), made("x", args="argparse"), made("x", args="hydra"),
        made("x {lr}", shell=True),
    ]  # fmt: skip
    assert len(set(names)) == len(names)
    # How it is watched and stopped changes no trial.
    assert made("x {lr}", grace=3, done="a", stop_signal="INT") == names[0]


def test_what_is_not_there_is_refused_at_launch() -> None:
    def problem(command: str) -> str:
        sweep = Sweep(
            command=command, base={"lr": 0.1}, metrics="m.jsonl", objective=minimize("loss")
        )
        assert sweep.task is not None
        with pytest.raises(InputError) as caught:
            sweep.task.check([sweep.base], 1)
        return caught.value.what

    assert problem("no-such-program {lr}") == "the program 'no-such-program' is not found"
    assert problem("python no_script.py {lr}").startswith("no_script.py is not there")
    assert problem(f"{sys.executable} no_script.py {{lr}}").startswith("no_script.py is not there")


@pytest.mark.parametrize("shell", [False, True])
def test_the_words_that_resume_stand_at_the_end_or_in_their_place(shell: bool) -> None:
    def filled(text: str, more: str | None) -> list[str]:
        import shlex

        words = Template(text, shell=shell).fill({"lr": 0.5}, {"folder": "/a b"}, more)
        return shlex.split(words[2]) if shell else words

    assert filled("x {lr}", None) == ["x", "0.5"]
    assert filled("x {lr}", "--from {folder}") == ["x", "0.5", "--from", "/a b"]
    assert filled("x {resume} {lr}", None) == ["x", "0.5"]
    assert filled("x {resume} {lr}", "-r {folder}") == ["x", "-r", "/a b", "0.5"]
    assert filled("sh -c 'x {lr} {resume}' y", "-r 1") == ["sh", "-c", "x 0.5 -r 1", "y"]


def test_resume_may_be_a_value_of_its_own() -> None:
    assert Template("x {resume}").fill({"resume": "a"}, HERE, "-r") == ["x", "a", "-r"]
    with pytest.raises(InputError, match=r"placeholder \{resume\}"):
        Sweep(command="x {resume}", metrics="m.jsonl", objective=minimize("a"))
