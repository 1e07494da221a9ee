"""What a node's network layer is told of its links: whether they work, and how long words take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from qstack.network.machine import LinkSeen
from qstack.physical.service import LinkParameters
from qstack.stack.hosting import Neighbours
from qstack.units import Duration, LinkName, NodeName


class LinkWatch:
    """The links of `node`, as its adjacencies with other ends and stations show them."""

    __slots__ = ("_links", "_neighbours", "_node", "_told")

    def __init__(
        self, node: NodeName, links: Mapping[LinkName, LinkParameters], neighbours: Neighbours
    ) -> None:
        self._node = node
        self._links = links
        self._neighbours = neighbours
        self._told: dict[LinkName, tuple[Duration, Duration]] = dict.fromkeys(links, (0, 0))

    def touched(self, peer: NodeName) -> Iterator[LinkSeen]:
        """Return what is to be said of the links of a peer that came or went."""
        for name, link in self._links.items():
            if peer in (link.other(self._node).node, link.station):
                yield self._seen(name, link)

    def changed(self) -> Iterator[LinkSeen]:
        """Return what is to be said of links whose latencies became known, or are quite others.

        A link comes up before the first round trip is measured. Small changes are not worth an
        advertisement to the whole network.
        """
        for name, link in self._links.items():
            for now, told in zip(self._measured(link), self._told[name], strict=True):
                if now > 2 * told or 2 * now < told:
                    yield self._seen(name, link)
                    break

    def _measured(self, link: LinkParameters) -> tuple[Duration, Duration]:
        """One way to the other end, and to the station and back."""
        latency_ns = self._neighbours.latency_ns
        return latency_ns(link.other(self._node).node), 2 * latency_ns(link.station)

    def _seen(self, name: LinkName, link: LinkParameters) -> LinkSeen:
        other = link.other(self._node).node
        up = self._neighbours.is_up(other) and self._neighbours.is_up(link.station)
        told = self._told[name] = self._measured(link)
        return LinkSeen(name, up, *told)
