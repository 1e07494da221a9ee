"""What a network file lets two nodes expect of each other: rates, and errors of readout."""

from __future__ import annotations

from qstack.config.links import link_parameters
from qstack.config.records import NetworkFile
from qstack.physical.service import LinkParameters
from qstack.units import NodeName


def common_links(network: NetworkFile, a: NodeName, b: NodeName) -> list[LinkParameters]:
    """Return the links between two nodes."""
    return [
        link_parameters(network, link.name)
        for link in network.links
        if {arm.node for arm in link.arms} == {a, b}
    ]


def predicted_rate_hz(network: NetworkFile, a: NodeName, b: NodeName, fidelity_min: float) -> float:
    """Return the rate of heralds of the fastest working point that meets the fidelity.

    As if a memory were always free: an upper bound for what is kept. 0 without a common link.
    """
    rates = [0.0]
    for parameters in common_links(network, a, b):
        for setting in parameters.settings:
            success = setting.success_probability
            good = sum(p.share * p.weights[p.bell] for p in setting.patterns)
            if success > 0 and good / success >= fidelity_min:
                rates.append(success * parameters.modes * 1e9 / parameters.cycle_ns)
    return max(rates)


def readouts(
    network: NetworkFile, a: NodeName, b: NodeName
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the probabilities to read 0 and 1 right, of a's and b's memories, by datasheet.

    Perfect ones where two nodes share no link that can keep a qubit.
    """
    for parameters in common_links(network, a, b):
        if parameters.keep:
            return parameters.end(a).model.readout, parameters.end(b).model.readout
    return (1.0, 1.0), (1.0, 1.0)
