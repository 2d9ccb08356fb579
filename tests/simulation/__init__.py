"""A deterministic simulation in which the real code of the store runs as interleaved processes.

    python -m simulation --count 1000      # with tests/ on PYTHONPATH; `make test-simulation`

Processes are greenlets of one thread. The files, hosts, clocks and Slurm that they see are
simulated (`machine`, `cluster`), and each system call is a point at which another
process may go on, or a fault strikes (`faults`). All chance comes from one seed, so that a failure
can be replayed. `world` plays one seed; `checks` says what must hold.
"""
