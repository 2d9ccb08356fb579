"""What a command does where its surroundings fail: closed and full outputs, a terminal that would
obey what it is shown, a machine without memory, threads, files or libraries."""

from __future__ import annotations

import errno
import functools
import os
import pty
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import local_machine.terminal
from local_machine import clock
from local_machine.errors import InputError, storage_error
from local_machine.terminal import counted

ROOT = Path(__file__).parent.parent
# A command of three kinds of words: it says, shows, fails and writes a file that proves its work.
APP = """
import sys, typer
from pathlib import Path
from local_machine.terminal import run_command
app = typer.Typer(add_completion=False)
@app.command()
def main(json: bool = False, dry_run: bool = False, lines: int = 20_000) -> int:
    print("begun", file=sys.stderr)
    with open("first", "w") as file:
        for number in range(lines):
            print(number)
            print("working", file=sys.stderr)
        file.write("work")
    {more}
    return 1
run_command(app{shows})
"""


def run(
    folder: Path,
    *words: str,
    more: str = "",
    shows: bool = False,
    shell: str = "",
) -> subprocess.CompletedProcess[str]:
    """The command with these words, behind some of the shell's, such as `>&-`."""
    program = folder / "program.py"
    program.write_text(APP.format(more=more, shows=", shows=True" if shows else ""))
    command = " ".join([sys.executable, str(program), *words, shell])
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip


def clean(text: str) -> bool:
    return not any(word in text for word in ("Traceback", "Exception ignored", "this is a bug"))


@pytest.mark.long
@pytest.mark.parametrize(
    "shell",
    ["2>/dev/full", "2>&-", "2> >(head -1 >/dev/null)", "2>&1 | head -2", "</dev/null 2>&- <&-"],
)
def test_no_reader_of_the_progress_ends_the_work(tmp_path: Path, shell: str) -> None:
    done = run(tmp_path, shell=shell)
    assert done.returncode == 1
    assert (tmp_path / "first").read_text() == "work"
    assert clean(done.stderr)


@pytest.mark.long
@pytest.mark.parametrize(
    ("shell", "code", "said"),
    [
        (">/dev/full", 1, "No space left on device; the work was done all the same"),
        (">/dev/full --json", 3, "No space left on device; the work was done all the same"),
        ("| head -2", 1, "Broken pipe; the work was done all the same"),
        ("--json | head -2", 1, "Broken pipe"),
        (">&-", 1, ""),
        (">&- 2>&- <&-", 1, ""),
        ("1</dev/null", 1, "Bad file descriptor"),
    ],
)
def test_work_goes_on_without_stdout_and_says_so_once(
    tmp_path: Path, shell: str, code: int, said: str
) -> None:
    done = run(tmp_path, shell=shell)
    assert done.returncode == code, done.stderr
    assert (tmp_path / "first").read_text() == "work"
    warnings = [line for line in done.stderr.splitlines() if line.startswith("warning:")]
    assert len(warnings) == bool(said)
    assert said in done.stderr
    assert clean(done.stderr)


@pytest.mark.parametrize(
    ("shell", "code"), [("| head -2", 0), (">/dev/full", 3), (">&-", 1), ("--dry-run | head -1", 0)]
)
def test_a_command_that_shows_ends_where_nobody_reads(
    tmp_path: Path, shell: str, code: int
) -> None:
    done = run(tmp_path, "--lines", "10000000" if code == 0 else "10", shell=shell, shows=True)
    assert done.returncode == code, done.stderr
    lines = [line for line in done.stderr.splitlines() if line not in ("begun", "working")]
    assert [line.partition(":")[0] for line in lines] == (["error", "help"] if code == 3 else [])


def test_a_line_that_is_only_buffered_is_not_lost_silently(tmp_path: Path) -> None:
    """One short line fails when Python ends, which would say so in its own words, with 120."""
    done = run(tmp_path, "--lines", "1", shell=">/dev/full", shows=True)
    assert (done.returncode, done.stderr.count("error:")) == (3, 1)
    assert clean(done.stderr)


def test_what_a_locale_cannot_say_is_spelled_out(tmp_path: Path) -> None:
    done = run(tmp_path, "--lines", "1", more="print('é─\\udc80')", shell="| cat")
    latin = subprocess.run(
        [sys.executable, tmp_path / "program.py", "--lines", "1"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"},
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert "é─\\udc80" in done.stdout
    assert "\\xe9\\u2500\\udc80" in latin.stdout


def test_a_terminal_that_closes_interrupts_the_work(tmp_path: Path) -> None:
    """As Ctrl-C does: whoever holds something gives it back. nohup is respected."""
    # In short waits: a signal right before a long one would be heard at its end.
    wait = (
        "import time\n    try:\n        Path('here').touch()\n"
        "        while True: time.sleep(0.05)\n"
        "    except KeyboardInterrupt:\n        Path('back').touch(); raise"
    )
    (tmp_path / "program.py").write_text(APP.format(more=wait, shows=""))
    for ignored, code in ((False, 130), (True, -signal.SIGTERM)):
        (tmp_path / "here").unlink(missing_ok=True)
        # Not as the tests themselves have it, which may run under nohup.
        how = functools.partial(
            signal.signal, signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL
        )
        process = subprocess.Popen(
            [sys.executable, "program.py", "--lines", "1"],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            preexec_fn=how,
        )  # fmt: skip
        while not (tmp_path / "here").exists():
            time.sleep(0.02)
        process.send_signal(signal.SIGHUP)
        time.sleep(0.2)
        if ignored:
            assert process.poll() is None
            process.terminate()
        _, said = process.communicate(timeout=20)
        assert process.returncode == code
        assert (tmp_path / "back").exists() and clean(said)


@pytest.mark.parametrize("module", ["sweeps.launch", "analysis.report", "slurm.dev_cluster"])
def test_interrupted_while_it_imports(tmp_path: Path, module: str) -> None:
    slow = "import time; from pathlib import Path; Path('here').touch(); time.sleep(60)"
    (tmp_path / "typer.py").write_text(slow)
    process = subprocess.Popen(
        [sys.executable, "-m", module], cwd=tmp_path, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
    )  # fmt: skip
    while not (tmp_path / "here").exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGINT  # 130 in a shell
    assert said == ""


HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\rgone\x08\u202eevil\udc80"


@given(st.text())
def test_nothing_that_is_printable_obeys(text: str) -> None:
    shown = local_machine.terminal.printable(text)
    assert all(char.isprintable() or char in "\n\t" for char in shown)
    assert local_machine.terminal.printable(shown) == shown
    if text.isprintable():
        assert shown == text


def test_nothing_printed_is_obeyed_by_a_terminal(tmp_path: Path) -> None:
    """Neither by print, nor in an error, nor through rich, also while it draws."""
    more = f"""
    from rich.live import Live
    from sweeps.cli import table
    hostile = {HOSTILE!r} + "[red]markup[/red]"
    print(hostile); print(hostile, file=sys.stderr)
    table.show(("a", hostile), [(hostile, hostile)], title=hostile)
    with Live(console=table.console(sys.stderr), auto_refresh=False) as live:
        live.update(table.make(("a",), [(hostile,)]), refresh=True)
        print(hostile, file=sys.stderr)
    sys.argv.append("--debug")
    raise FileNotFoundError(2, "x", hostile + "\\nhelp: rm -rf /")
    """
    (tmp_path / "program.py").write_text(APP.format(more=more, shows=""))
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.environ.update(PYTHONPATH=str(ROOT), TERM="xterm")
        os.execv(sys.executable, [sys.executable, "program.py", "--lines", "1"])
    said = b""
    while True:
        try:
            said += os.read(terminal, 65536)
        except OSError:
            break
    _, status = os.waitpid(pid, 0)
    text = said.decode()
    assert os.waitstatus_to_exitcode(status) == 3
    assert text.count("\\x1b]0;owned\\x07") >= 5
    assert "\x1b]" not in text and "\x07" not in text and "\x1b[2J" not in text
    assert "\x9b" not in text and "\x08" not in text and "\u202e" not in text
    assert "[red]markup[/red]" in text
    assert not any(line.startswith("help: rm") for line in text.splitlines())


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        ("bytearray(1 << 50)", 3, "memory"),
        ('raise RuntimeError("can\'t start new thread")', 3, "thread"),
        ("import not_there", 3, "make setup"),
        ("raise ImportError('libx.so.1: cannot open shared object file')", 3, "make setup"),
        ("open('/nowhere/x')", 3, "/nowhere/x"),
        ("open('x' * 300)", 3, "File name too long"),
        ("import os; os.symlink('loop', 'loop'); open('loop')", 3, "symbolic links"),
        ("open('a' + chr(0))", 2, "NUL"),
        ("raise OSError('words alone')", 3, "words alone"),
        ("raise OSError", 3, "OSError"),
        ("raise OSError(11, 'fork')", 3, "ulimit -u"),
        ("raise OSError(24, 'too many')", 3, "ulimit -n"),
        ("chr(0xdc80).encode()", 2, "UTF-8"),
        ("b'\\xff'.decode()", 2, "UTF-8"),
        ("import subprocess; subprocess.run(['false'], check=True)", 3, "child"),
        ("def f(): f()\nf()", 3, "deep"),
        ("raise KeyboardInterrupt", 130, ""),
        ("raise type('Odd', (BaseException,), {})('odd')", 3, "Odd"),
        ("raise type('Odd', (KeyboardInterrupt,), {})('odd')", 130, ""),
        ("sys.exit('words')", 3, "words"),
    ],
)
def test_trouble_is_told_in_two_lines(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    more: str,
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        local_machine.terminal.run_command(lambda **_: exec(more, {"sys": sys}), [])
    printed = capsys.readouterr()
    assert (end.value.code, printed.out) == (code, "")
    kinds = [line.partition(":")[0] for line in printed.err.splitlines()]
    assert kinds == (["error", "help"] if code != 130 else ["interrupted"])
    assert said in printed.err
    assert ("this is a bug" in printed.err) == (said == "Odd")


@pytest.mark.parametrize(
    "error",
    [OSError(number, os.strerror(number), "/x\n") for number in errno.errorcode]
    + [OSError("words"), BlockingIOError(), ConnectionResetError(104, "x")],
    ids=repr,
)
def test_no_operating_system_error_is_a_bug(error: OSError) -> None:
    found = local_machine.terminal.explained(error)
    assert found is not None and found[2] == 3 and found[0] and found[1]
    if (stored := storage_error(error)) is not None:
        assert isinstance(stored, InputError) and stored.exit_code == 3


@pytest.mark.parametrize("mebibytes", [60, 90])
def test_a_machine_that_gives_little_is_no_bug(tmp_path: Path, mebibytes: int) -> None:
    limit = (mebibytes << 20, mebibytes << 20)
    done = subprocess.run(
        [sys.executable, "-m", "sweeps.launch", "grid_bs_epoch", "--dry-run"],
        capture_output=True, text=True, cwd=tmp_path, timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, limit),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert clean(done.stderr), done.stderr
    assert [line.partition(":")[0] for line in done.stderr.splitlines()[-2:]] == ["error", "help"]


def test_a_reports_formats_pass_no_control_character_on() -> None:
    """Neither a terminal's, where it is read by `cat`, nor one that turns the text's direction."""
    from markupsafe import Markup

    from analysis.output import formats

    for write in (formats.latex, formats.markdown, formats.csv_cell, formats.without_controls):
        shown = str(write(HOSTILE.replace("\udc80", "") + "x"))
        assert shown.replace("\r", "").replace("<br>", "").isprintable(), shown
    assert formats.without_controls(Markup("<b>\x1b")) == "<b>\x1b"


def test_progress_is_said_every_two_seconds_and_costs_no_item(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter([0.0, 0.5, 1.0, 2.5, 2.5, 3.0, 4.0, 5.0, 5.0])
    monkeypatch.setattr(clock, "monotonic", lambda: next(seconds))
    assert list(counted(iter(range(6)), 1200, "read {} of {} trials")) == list(range(6))
    assert capsys.readouterr().err == "read 2 of 1,200 trials\nread 5 of 1,200 trials\n"
