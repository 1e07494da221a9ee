"""``qstack sweep``: a grid of parameters times seeds in virtual time.

=============  ==========================================================================
`plan`         from a sweep file to its points, or to everything wrong with it
`point`        one point: a network in virtual time, from its seed
`running`      many points: on the cores of this machine, or on a dask cluster
`results`      the append-only record of what is done, and the tables made of it
`plot`         pictures of the tables
=============  ==========================================================================
"""

from qstack_nodes.sweep.verb import SweepOptions, sweep

__all__ = ["SweepOptions", "sweep"]
