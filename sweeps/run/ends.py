"""What ends an attempt from outside. Neither is an Exception: no task's handler swallows them."""

from __future__ import annotations


class LostTrialError(BaseException):
    """Another attempt holds the trial now. This one must write nothing more."""


class StoppedError(BaseException):
    """The attempt was asked to stop, and all that it did is saved."""
