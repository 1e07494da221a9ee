"""The plugin kit: a pytest plugin that puts device machines through the contract of devices.

It comes with the package and is loaded by pytest itself. Mark a test with the benches of your
devices (:class:`qstack.hal.contract.Bench`) and let it call the fixture ``device_check``: it runs
once for each bench and each check that applies to it, those of
:data:`qstack.hal.contract.CHECKS` and a random one, which needs Hypothesis::

    @pytest.mark.qstack_bench(MY_BENCH, MY_OTHER_BENCH)
    def test_my_devices_keep_the_contract(device_check):
        device_check()

pytest loads this file in every project of an environment, so it imports the rest of the package
only where a test asks for it.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from qstack.hal.contract import Bench

MARKER = "qstack_bench"
FIXTURE = "device_check"
EXAMPLES = 40
"""How many random sequences of commands a device is put through."""


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    text = f"{MARKER}(*benches): the devices that the fixture {FIXTURE} checks"
    config.addinivalue_line("markers", text)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test that wants ``device_check`` one case for each bench and check."""
    if FIXTURE not in metafunc.fixturenames:
        return
    from qstack.hal.contract import checks_for  # noqa: PLC0415  only where a test asks for it

    marker = metafunc.definition.get_closest_marker(MARKER)
    if marker is None or not marker.args:
        name = metafunc.definition.name
        raise pytest.UsageError(f"{name}: {FIXTURE} needs @pytest.mark.{MARKER}(bench, ...)")
    cases = []
    for bench in marker.args:
        for check in (*checks_for(bench), check_random_commands):
            what = check.__name__.removeprefix("check_").replace("_", "-")
            cases.append(pytest.param(partial(check, bench), id=f"{bench.device}-{what}"))
    metafunc.parametrize(FIXTURE, cases)


def check_random_commands(bench: Bench) -> None:
    """Any sequence of commands, aborts and waits: one terminal event each, and none later."""
    # Only where a test asks for it: hypothesis is no dependency of the package.
    from hypothesis import given, settings  # noqa: PLC0415  see above
    from hypothesis import strategies as st  # noqa: PLC0415  see above

    from qstack.hal.contract import Give, Revoke, Wait, play  # noqa: PLC0415  see above

    places = st.integers(0, 30)
    waits = st.sampled_from((0, 1, bench.abort_ns, bench.watch_ns // 97, bench.watch_ns // 3))
    step: Any = st.one_of(
        places.map(Give), places.map(Revoke), waits.map(Wait), st.integers(0, 3).map(Give)
    )

    @settings(max_examples=EXAMPLES, deadline=None)
    @given(st.lists(step, max_size=12))
    def run(steps: Any) -> None:
        play(bench, steps)

    run()
