"""Runs that were made without us enter the store, read-only, so that reports can compare them.

Not to be confused with `sweeps.state.adoption`, by which a sweep takes over an equal trial that
another sweep of the same results has trained. Here a run is *foreign*: another program, or another
launcher, made it, and all that is known of it are the files that it left.
"""
