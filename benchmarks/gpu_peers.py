"""Others' kernels for the plain scan h[t] = a[t] h[t-1] + b[t], where they can be imported.

Each takes (a, b), (B, T, D), in the layout that suits it: what it would cost to bring tensors
into that layout is left out. Each is first held to a loop; one that is wrong is not timed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.gpu_subjects import Row, make, milliseconds, short

Scan = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Peer:
    """A scan; ``channels_first``: it takes (B, D, T). ``logarithm``: it takes log a."""

    name: str
    scan: Scan
    channels_first: bool = False
    logarithm: bool = False
    backward: bool = True


def peers() -> tuple[list[Peer], dict[str, str]]:
    """Those that are there, and why the others are not."""
    found: list[Peer] = []
    absent: dict[str, str] = {}

    def add(name: str, load: Callable[[], Peer]) -> None:
        try:
            found.append(load())
        except Exception as problem:  # whatever a foreign package's import raises
            absent[name] = f"{type(problem).__name__}: {str(problem).splitlines()[0:1]}"

    def compiled() -> Peer:
        from torch._higher_order_ops.associative_scan import associative_scan

        def compose(first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return first[0] * second[0], second[0] * first[1] + second[1]

        def scan(a: Tensor, b: Tensor) -> Tensor:
            found: Tensor = associative_scan(compose, (a, b), dim=1, combine_mode="pointwise")[1]
            return found

        # Its gradients in this mode are wrong (torch 2.13): forward only.
        return Peer("torch.compile(associative_scan)", torch.compile(scan), backward=False)

    def accelerated() -> Peer:
        from accelerated_scan.scalar import scan

        return Peer("accelerated-scan (Triton)", scan, channels_first=True)

    def warp() -> Peer:
        from accelerated_scan.warp import scan  # builds with nvcc

        return Peer("accelerated-scan (warp)", scan, channels_first=True)

    def chunked() -> Peer:
        from fla.ops.hgrn import chunk_hgrn

        return Peer("fla chunk_hgrn", lambda g, x: chunk_hgrn(x, g)[0], logarithm=True)

    def recurrent() -> Peer:
        from fla.ops.hgrn import fused_recurrent_hgrn

        return Peer(
            "fla fused_recurrent_hgrn", lambda g, x: fused_recurrent_hgrn(x, g)[0], logarithm=True
        )

    def newton() -> Peer:
        from pararnn.solvers.scan import scan_diag

        return Peer("pararnn-torch scan_diag", lambda a, b: scan_diag(a, b), backward=False)

    for name, load in (
        ("torch.compile(associative_scan)", compiled), ("accelerated-scan (Triton)", accelerated),
        ("accelerated-scan (warp)", warp), ("fla chunk_hgrn", chunked),
        ("fla fused_recurrent_hgrn", recurrent), ("pararnn-torch scan_diag", newton),
    ):  # fmt: skip
        add(name, load)
    return found, absent


def operands(peer: Peer, shape: tuple[int, int, int], dtype: torch.dtype) -> list[Tensor]:
    """(a, b) as the peer takes them."""
    torch.manual_seed(0)
    a, b = torch.rand(shape, device="cuda"), torch.randn(shape, device="cuda")
    a = (0.05 + 0.9 * a).log() if peer.logarithm else 0.05 + 0.9 * a
    if peer.channels_first:
        a, b = (v.transpose(1, 2).contiguous() for v in (a, b))
    return [v.to(dtype) for v in (a, b)]


def wrong(peer: Peer, dtype: torch.dtype) -> float:
    """How far a peer's values are from a loop in float64."""
    a, b = operands(peer, (2, 256, 128), dtype)
    found = peer.scan(a, b).double()
    a, b = a.double(), b.double()
    if peer.channels_first:
        a, b, found = (v.transpose(1, 2) for v in (a, b, found))
    a = a.exp() if peer.logarithm else a
    h, worst = torch.zeros_like(b[:, 0]), 0.0
    for t in range(b.shape[1]):
        h = a[:, t] * h + b[:, t]
        worst = max(worst, float((h - found[:, t]).abs().max()))
    return worst


def peer_rows(
    peer: Peer, shape: tuple[int, int, int], dtype: torch.dtype, copied: float
) -> Iterator[Row]:
    """A peer's forward pass, and its backward where it has a right one."""
    a, b = operands(peer, shape, dtype)
    with torch.no_grad():
        took = milliseconds(lambda: peer.scan(a, b))
    moved = 3 * a.nbytes
    yield Row(
        peer.name, "forward", shape, short(dtype), took, moved, moved / (took * 1e-3) / copied
    )
    if peer.backward:
        a.requires_grad_(), b.requires_grad_()
        h = peer.scan(a, b)
        grad = torch.randn_like(h)
        took = milliseconds(lambda: torch.autograd.grad(h, (a, b), grad, retain_graph=True))
        moved = 5 * a.nbytes
        share = moved / (took * 1e-3) / copied
        yield Row(peer.name, "backward", shape, short(dtype), took, moved, share)


def our_rows(shape: tuple[int, int, int], dtype: torch.dtype, copied: float) -> Iterator[Row]:
    """The plain scan as a layer, through autograd as the peers are."""
    layer = make("Plain", shape[2], dtype)
    layer.backend = "cuda"
    a, b = operands(Peer("seqc", lambda a, b: a), shape, dtype)
    with torch.no_grad():
        took = milliseconds(lambda: layer(a, b))
    moved = 3 * a.nbytes
    yield Row("seqc", "forward", shape, short(dtype), took, moved, moved / (took * 1e-3) / copied)
    a.requires_grad_(), b.requires_grad_()
    h, _ = layer(a, b)
    grad = torch.randn_like(h)
    took = milliseconds(lambda: torch.autograd.grad(h, (a, b), grad, retain_graph=True))
    moved = 5 * a.nbytes
    share = moved / (took * 1e-3) / copied
    yield Row("seqc", "backward", shape, short(dtype), took, moved, share)
