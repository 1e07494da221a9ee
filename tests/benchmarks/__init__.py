"""How fast qstack is on this machine: ``make bench``, or ``python -m tests.benchmarks``.

Figures, never assertions: a busy machine must not turn a right answer into a failure. Each is
printed beside its target, which holds on the reference machine (two cores, everything on
loopback), and as a ratio to a calibration of the same run: live figures to the bare relay graph
(:mod:`~tests.benchmarks.relay`), all others to operations on a heap of records
(:mod:`~tests.benchmarks.calibration`). Compare machines, and commits on different days, by the
ratios.
"""
