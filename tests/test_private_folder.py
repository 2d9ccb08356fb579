"""Caches of code: a folder of the user's own, or none that outlives the process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from local_machine import private_folder
from local_machine.private_folder import CODE_CACHES, _make_private
from trainer.recipes import reported

ROOT = Path(__file__).parent.parent
NOBODY = 65534
SAY = """
import json, os
from local_machine.private_folder import CODE_CACHES, use_private_caches
use_private_caches()
print(json.dumps([os.environ[name] for name in CODE_CACHES]))
"""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder to another user")


def says(code: str, **changed: str) -> subprocess.CompletedProcess[str]:
    own = {key: text for key, text in os.environ.items() if key not in
           (*CODE_CACHES, "SWEEPS_CACHE", "XDG_CACHE_HOME", "SWEEPS_CODE_CACHES")}  # fmt: skip
    return subprocess.run(
        [sys.executable, "-c", code], env=own | changed, cwd=ROOT, capture_output=True, text=True
    )


def folders(**changed: str) -> list[Path]:
    done = says(SAY, **changed)
    assert done.returncode == 0, done.stderr
    return [Path(one) for one in json.loads(done.stdout)]


def test_code_is_kept_in_the_users_home_and_nobody_else_may_write_it(tmp_path: Path) -> None:
    old = os.umask(0o002)
    try:
        inductor, triton = folders(HOME=str(tmp_path))
        again = folders(HOME=str(tmp_path))
    finally:
        os.umask(old)
    assert inductor.parent == tmp_path / ".cache/sweeps/code" and triton.parent == inductor
    assert again == [inductor, triton]
    for folder in (inductor, inductor.parent, inductor.parent.parent):
        assert not folder.stat().st_mode & 0o022
    assert inductor.stat().st_mode & 0o777 == 0o700


def test_a_cache_of_ones_own_on_another_disk_is_used(tmp_path: Path) -> None:
    inductor, _ = folders(HOME="/nonexistent", SWEEPS_CACHE=str(tmp_path / "mine"))
    assert inductor.is_relative_to(tmp_path / "mine")


def test_a_data_cache_that_a_group_shares_holds_no_code(tmp_path: Path) -> None:
    shared, home = tmp_path / "shared", tmp_path / "home"
    shared.mkdir()
    shared.chmod(0o2775)
    os.chown(shared, -1, NOBODY) if os.geteuid() == 0 else None
    home.mkdir()
    inductor, _ = folders(HOME=str(home), SWEEPS_CACHE=str(shared))
    assert inductor.is_relative_to(home)
    assert shared.stat().st_mode & 0o777 == 0o775


def test_without_a_home_there_is_a_folder_for_this_process_alone(tmp_path: Path) -> None:
    temporary = tmp_path / "t"
    temporary.mkdir()
    (tmp_path / "home").touch()
    done = says(SAY, HOME=str(tmp_path / "home"), TMPDIR=str(temporary))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("note: ") == 1
    (inductor, _) = json.loads(done.stdout)
    assert Path(inductor).parent == temporary and not Path(inductor).exists()


@pytest.mark.parametrize("name", CODE_CACHES)
def test_a_folder_that_others_may_write_is_refused_where_the_user_chose_it(
    tmp_path: Path, name: str
) -> None:
    chosen = tmp_path / "chosen"
    assert str(chosen) in map(str, folders(HOME=str(tmp_path), **{name: str(chosen)}))
    chosen.chmod(0o777)
    done = says(SAY, HOME=str(tmp_path), **{name: str(chosen)})
    assert done.returncode and f"{name}={chosen}" in done.stderr


def test_what_a_parent_chose_is_no_choice_of_the_users(tmp_path: Path) -> None:
    """A job on another machine, or a worker that outlives its launch, chooses again."""
    (there, _) = folders(HOME=str(tmp_path / "a"))
    code = f"{SAY}\nimport subprocess, sys\nos.environ['HOME'] = {str(tmp_path / 'b')!r}\n"
    code += f"subprocess.run([sys.executable, '-c', {SAY!r}])"
    first, second = says(code, HOME=str(tmp_path / "a")).stdout.splitlines()
    assert json.loads(first)[0] == str(there)
    assert json.loads(second)[0].startswith(str(tmp_path / "b"))


@as_root
def test_whose_folder_it_is_and_who_may_move_it(tmp_path: Path) -> None:
    def problem(mode: int = 0o700, owner: int = 0, above: int = 0o755, its: int = 0) -> str | None:
        parent = tmp_path / f"{mode}-{owner}-{above}-{its}"
        folder = parent / "own"
        folder.mkdir(parents=True)
        for path, number, user in ((folder, mode, owner), (parent, above, its)):
            os.chown(path, user, NOBODY)
            path.chmod(number)
        return _make_private(folder)

    assert problem() is None and problem(above=0o1777) is None
    assert "others may write" in (problem(mode=0o770) or "")
    assert "others may write" in (problem(mode=0o1777) or "")
    assert "others may write" in (problem(above=0o777) or "")
    assert "belongs to another user" in (problem(owner=NOBODY) or "")
    assert "belongs to another user" in (problem(above=0o1777, owner=NOBODY) or "")
    assert "belongs to another user" in (problem(its=NOBODY) or "")
    (tmp_path / "link").symlink_to(tmp_path)
    assert "is not a folder" in (_make_private(tmp_path / "link") or "")


@pytest.mark.long
@pytest.mark.timeout(200)
def test_a_trial_leaves_and_reads_nothing_under_a_name_that_anybody_knows(tmp_path: Path) -> None:
    """torch makes /tmp/torchinductor_USER where it only imports its compiler."""
    small = {"data.name": "digits", "data.train_limit": 100, "epochs": 1, "model.width": 0.5,
             "deterministic": True}  # fmt: skip
    config = reported("wrn_10_1").override(small)
    (tmp_path / "config.json").write_text(config.to_json())
    temporary = tmp_path / "t"
    temporary.mkdir()
    words = ["trainer", str(tmp_path / "config.json"), str(tmp_path / "out")]
    code = f"import runpy, sys\nsys.argv = {words!r}\n"
    code += "runpy.run_module('trainer', run_name='__main__')"
    done = says(code, HOME=str(tmp_path), TMPDIR=str(temporary))
    assert done.returncode == 0, done.stderr
    assert not list(temporary.glob("torchinductor*"))


def test_counting_looks_for_the_folder_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SWEEPS_CACHE", str(tmp_path))
    for name in CODE_CACHES:
        monkeypatch.setenv(name, "")
    private_folder.use_private_caches.cache_clear()
    private_folder.use_private_caches()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"].startswith(str(tmp_path / "code"))
    private_folder.use_private_caches.cache_clear()
