"""What a network file lets two nodes expect of each other: rates, fidelity, errors of readout."""

from __future__ import annotations

from qstack.config.links import link_parameters
from qstack.config.records import NetworkFile
from qstack.config.routes import Wanted, expected_route, rate_of
from qstack.machine import record
from qstack.messages.common import PairKind
from qstack.physical.service import LinkParameters
from qstack.units import Duration, NodeName


def common_links(network: NetworkFile, a: NodeName, b: NodeName) -> list[LinkParameters]:
    """Return the links between two nodes."""
    return [
        link_parameters(network, link.name)
        for link in network.links
        if {arm.node for arm in link.arms} == {a, b}
    ]


def predicted_rate_hz(network: NetworkFile, a: NodeName, b: NodeName, fidelity_min: float) -> float:
    """Return the rate of heralds of the fastest working point that meets the fidelity.

    As if a memory were always free: an upper bound for what is kept. 0 without a common link. Of a
    link with windows: over a long time, in which it is open for their part.
    """
    rates = [0.0]
    for parameters in common_links(network, a, b):
        windows = parameters.windows
        part = 1.0 if windows is None else windows.whole_ns / windows.period_ns
        for setting in parameters.settings:
            success = setting.success_probability
            good = sum(p.share * p.weights[p.bell] for p in setting.patterns)
            if success > 0 and good / success >= fidelity_min:
                rates.append(part * success * parameters.modes * 1e9 / parameters.cycle_ns)
    return max(rates)


@record
class Expectation:
    """What can be expected between two nodes; 0 for a number that nobody can tell.

    `rate_hz`: of pairs, at most. `fidelity`: that the route promises as the mean at hand-over,
    for nodes that are no neighbours. `hops`: links on the way.
    """

    rate_hz: float
    fidelity: float
    hops: int


def expectation(  # noqa: PLR0913  what a request says of its pairs, by name
    network: NetworkFile,
    a: NodeName,
    b: NodeName,
    fidelity_min: float,
    *,
    trust_min: int = 0,
    kind: PairKind = PairKind.KEEP,
    number: int = 1,
    within_ns: Duration = 0,
) -> Expectation:
    """Return what two nodes can expect of each other, over a link of theirs or a route.

    For pairs of this kind, or sets of this number within this time (0: each as it comes). The rate
    of sets is that of their pairs, of which some are made for nothing.
    """
    near = any({arm.node for arm in link.arms} == {a, b} for link in network.links)
    if near and not within_ns:
        return Expectation(predicted_rate_hz(network, a, b, fidelity_min), 0.0, 1)
    wanted = Wanted(fidelity_min, kind, number, within_ns, trust_min)
    way = expected_route(network, a, b, wanted)
    if way is None:
        return Expectation(0.0, 0.0, 0)
    return Expectation(rate_of(way, wanted), way.fidelity, len(way.hops))


def readouts(
    network: NetworkFile, a: NodeName, b: NodeName
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the probabilities to read 0 and 1 right, of a's and b's memories, by datasheet.

    Neighbours are given those of a link of theirs that keeps qubits, others those of any link.
    Perfect ones where there is none.
    """
    for parameters in common_links(network, a, b):
        if parameters.keep:
            return parameters.end(a).model.readout, parameters.end(b).model.readout
    if common_links(network, a, b):
        return (1.0, 1.0), (1.0, 1.0)
    return _readout(network, a), _readout(network, b)


def _readout(network: NetworkFile, name: NodeName) -> tuple[float, float]:
    for link in network.links:
        if link.keep and name in (arm.node for arm in link.arms):
            return link_parameters(network, link.name).end(name).model.readout
    return 1.0, 1.0
