"""The `qstack` command: launching networks, using them, looking at them.

=============  ==========================================================================
`command`      the verbs and their arguments; imports nothing heavy until a verb runs
`verbs`        what each verb does
`launcher`     the processes of a network as children of one
`process`      one process of a network
`probe`        what `qstack check` finds out about ports and peers
`report`       tables, progress and JSON lines
`networks`     networks ready to run
=============  ==========================================================================
"""
