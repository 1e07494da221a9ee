"""The `qstack` command: launching networks, using them, looking at them.

=============  ==========================================================================
`command`      the verbs and their arguments; imports nothing heavy until a verb runs
`asking`       pairs and status of a live network; `simulating` the same in virtual time
`sweep`        grids of parameters and seeds in virtual time
`running`      every process of a network, and perhaps a command against it
`looking`      budgets, traces and their replay
`launcher`     the processes of a network as children of one
`process`      one process of a network
`probe`        what `qstack check` finds out about ports and peers
`report`       tables, progress and JSON lines
`networks`     networks ready to run
=============  ==========================================================================
"""
