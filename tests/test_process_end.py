"""How a process ends that has read compact files: without threads that could abort it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from task_results import write_results

from sweeps.compact import archive_writer
from sweeps.state.trial_store import TrialStore
from trial_records import archive

ROOT = Path(__file__).parent.parent
READ = """
import os, sys
from pathlib import Path
import pyarrow.parquet
from trial_records import archive
before = len(os.listdir("/proc/self/task"))
archive.read(Path(sys.argv[1]))
print(len(os.listdir("/proc/self/task")) - before)
"""


def test_reading_a_compact_file_starts_no_thread(tmp_path: Path) -> None:
    """pyarrow's threads read our file by way of Python: where one of them lets go of it while
    Python ends, the process is aborted, `terminate called without an active exception`."""
    write_results(tmp_path)
    store = TrialStore(tmp_path, "mine")
    with archive_writer.held(store) as folder:
        archive_writer.gather(store, store.plans()[0].trials, folder)
    (part,) = archive.parts(store.folder)
    done = subprocess.run(
        [sys.executable, "-c", READ, str(part)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "0\n"
