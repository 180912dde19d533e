"""A target is named in several rooms, of which none may import the others: they agree."""

from __future__ import annotations

from seqc.codegen.sources import PRELUDES, TARGETS, TITLES
from seqc.commands import emit
from seqc.frontend.declarations.reserved import MODULE_NAMES
from seqc.passes import driver
from seqc.runtime.environment import BACKENDS, FUSED
from seqc.runtime.kernels import LAUNCHERS


def test_every_room_names_every_target() -> None:
    names = {t.lower() for t in TARGETS}
    assert names == set(FUSED.values()) == set(LAUNCHERS) == {t.lower() for t in TITLES}
    assert names < set(BACKENDS)
    assert emit.TARGETS == driver.TARGETS
    assert names < set(driver.TARGETS)
    assert PRELUDES.keys() <= MODULE_NAMES
    assert all(f"  {t:<12}" in emit.EPILOG for t in driver.TARGETS)
