"""Callbacks by which the training loops of other frameworks log, commit, stop and resume as trials.
Each needs its framework, and is imported only by programs that use it."""
