"""Where purity ends: sockets, clocks, files and tasks that drive the pure machines.

A process is one host (:mod:`qstack.stack`) with a :class:`~qstack.drivers.pump.Pump` around it.
The pump owns the sockets and the one deadline; it turns datagrams into events and actions into
datagrams, and contains no protocol logic.

=============  ==========================================================================
`udp`          a socket that is drained until it would block, and counts what was lost
`pump`         one host, its ports, its clock, its devices and its trace
`ports`        a socket, and who may be heard by it
`loop`         what waits for sockets in the process of a node, with trio as its guest
`places`       from a network file to ports, clock and host of one process
`devices`      plugins in this process, pure or asynchronous
`laboratory`   a process that serves devices to others
`keys`         who may speak as whom: what seals and opens datagrams
`trace`        the record of all that entered and left a host; `replay` steps it again
`serving`      a process from its first breath to its orderly end: readiness, signals
`client`       reaching the nodes of a running network; `live` is the live
               :class:`qstack.application.service.Node`, `deliveries` what it waits for
`timer`        one wake-up, on time
=============  ==========================================================================
"""
