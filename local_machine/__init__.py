"""The machine that a process runs on: its files, processes, terminal and secrets. The ground floor,
which all import and which knows none of them."""

from local_machine import own_modules

# Before anything is imported that the working directory could have in its place.
own_modules.install()
