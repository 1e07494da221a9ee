"""Theory of operation: users, their requests, and the qubits they own.

A user is whoever opens an adjacency to the node's user port. Requests, qubits and purposes
belong to the user that asked, listened or received, and end with its adjacency: what it leaves
running is cancelled and what it holds is freed. Messages are those of
:mod:`qstack.messages.application`.

Whoever reaches the user port may also drain the node or a link of it: this belongs to the node, not
to the user, and lasts until somebody takes it back or the process ends.
"""
