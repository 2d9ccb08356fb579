"""Files that others may have put there: read as what they are, or not at all."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from trainer.errors import EXIT_IO, InputError, move_away

# The plan of a million trials has fewer bytes. A file with holes may claim any number.
LARGEST = 2**31


def read_file(path: Path) -> bytes:
    """What a stored file holds: the one way in which files are read that others may have put there.

    Raises FileNotFoundError where there is none, and InputError where it cannot be read or is not a
    regular file (or a link to one): to open a FIFO would wait for a writer that never comes.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode):
                raise OSError(errno.EINVAL, "it is not a regular file")
            if facts.st_size > LARGEST:
                raise OSError(errno.EFBIG, "it is larger than any file that a sweep writes")
            return file.readall()
    except FileNotFoundError:
        if path.is_symlink():
            raise unreadable(path, OSError(errno.ENOENT, "it is a link to nowhere")) from None
        raise
    except IsADirectoryError:
        raise unreadable(path, OSError(errno.EISDIR, "it is a folder, not a file")) from None
    except OSError as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: OSError) -> InputError:
    return InputError(
        f"cannot read {path}: {error.strerror}",
        f"correct its permissions, or move it away: {move_away(path)}",
        exit_code=EXIT_IO,
    )
