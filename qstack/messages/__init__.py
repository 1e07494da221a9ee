"""Every message on every wire, grouped by layer.

A message is a record registered with a *kind* (its number on the wire), a *delivery* (timed,
soft or reliable, DESIGN section 5) and, where it is not timed, what names its stream. The
reference of the wire in ``docs/reference/wire.md`` is generated from this package.

===============  ===========  ==========================================================
module           kinds        who speaks
===============  ===========  ==========================================================
`wire`           --           the datagram, its header, the registry of kinds
`control`        0x01-0x0f    adjacency with adjacency
`physical`       0x10-0x1f    node with heralding station
`link`           0x20-0x3f    the two ends of a link
`network`        0x40-0x41    node with node: link state
`circuits`       0x42-0x4f    node with neighbouring node, along circuits
`network`        0x50-0x57    node with node: purification
`schedule`       0x58-0x5f    time division: whose bins of a link are which
`application`    0x60-0x8f    a user with a node (the user port)
`devices`        0xa0-0xdf    a node or station with its hardware (the hardware port)
`memories`       0xa0-0xdf    what of that is for memories alone
===============  ===========  ==========================================================
"""
