"""Theory of operation: end-to-end pairs.

So far the network is one hop: every request is for a neighbour, and a link's pair is an
end-to-end pair. The layer already has the service that it will keep, so that nothing above
it will notice when circuits over several links arrive.
"""
