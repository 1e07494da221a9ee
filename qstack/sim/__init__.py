"""The simulated world, and whole networks in virtual time.

Rooms: :mod:`~qstack.sim.heralding`, :mod:`~qstack.sim.states` and
:mod:`~qstack.sim.channels` are formulas; :mod:`~qstack.sim.devices` describes the simulated
hardware to network files; :mod:`~qstack.sim.world` is the one pure machine that holds all
joint quantum state and answers the commands of the hardware port. Importing this package
loads none of them, and no protocol layer imports any of them.
"""
