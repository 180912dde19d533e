"""S6, S4D, S5, LRU and Mega's moving average against loops over complex numbers."""

from __future__ import annotations

import torch

from tests.zoo import references_ssm as ref
from tests.zoo.harness import Case, Checks, over

PAIR = ("s_re", "s_im")
CASES = (
    Case("S6", ref.s6, ("h",), {"hidden": 5, "slots": 3, "rank": 2}, ("hidden",)),
    Case("S4D", ref.s4d, PAIR, {"hidden": 5, "slots": 3}, ("hidden",)),
    Case("S5", ref.s5, PAIR, {"hidden": 5, "modes": 3}, ("hidden",)),
    Case("LRU", ref.lru, PAIR, {"hidden": 5, "modes": 3}, ("hidden",)),
    Case("MegaEMA", ref.mega_ema, ("h",), {"hidden": 5, "slots": 3}, ("hidden",)),
)


@over(CASES)
class TestStateSpaces(Checks):
    pass


def fresh(name: str) -> dict[str, torch.Tensor]:
    """The parameters as a layer of some size is built with."""
    torch.manual_seed(0)
    case = next(c for c in CASES if c.layer == name)
    grown = {size: 400 if size != "rank" else 2 for size in case.sizes}
    return {n: p.detach() for n, p in Case(name, case.reference, case.states, grown).build(
        spread=None
    ).named_parameters()}  # fmt: skip


def test_steps_start_between_a_thousandth_and_a_tenth() -> None:
    for delta in (torch.nn.functional.softplus(fresh("S6")["bias"]), fresh("S4D")["log_dt"].exp()):
        assert 0.00099 < delta.min() < 0.0012
        assert 0.09 < delta.max() < 0.1001


def test_the_linear_recurrent_unit_starts_on_its_ring() -> None:
    p = fresh("LRU")
    radius = torch.exp(-torch.exp(p["nu"]))
    assert 0.899 < radius.min() < 0.91
    assert 0.998 < radius.max() < 0.9991
    assert p["theta"].min() >= 0
    assert 6 < p["theta"].max() <= 2 * torch.pi


def test_decays_near_one_keep_their_digits() -> None:
    # 1 − |λ|² and exp(Δ A) − 1 cancel as printed; against a reference in closed form.
    case = next(c for c in CASES if c.layer == "LRU")
    layer = case.build()
    with torch.no_grad():
        layer.nu.fill_(-30.0)
        layer.theta.zero_()
        layer.u_im.weight.zero_()
        x = case.drive(1, 1)[0]
        _, final = layer(x)
    u = x[:, 0] @ layer.u_re.weight.detach().T
    want = u * (2 * torch.exp(torch.tensor(-30.0).double())).sqrt() * layer.gamma_log.detach().exp()
    torch.testing.assert_close(final.s_re.detach(), want, rtol=1e-12, atol=0)

    case = next(c for c in CASES if c.layer == "S4D")
    layer = case.build()
    with torch.no_grad():
        layer.log_dt.fill_(-30.0)
        x = case.drive(1, 1)[0]
        _, final = layer(x)
    want = x[:, 0].unsqueeze(-1).expand(-1, 5, 3) * torch.exp(torch.tensor(-30.0).double())
    torch.testing.assert_close(final.s_re.detach(), want, rtol=1e-10, atol=0)
