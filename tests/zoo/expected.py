"""What a mathematician would say of each stratum of the zoo, before any compiler is asked.

One row a stratum, in the order in which they run: layer, states, algebra, Jacobian, method.

Algebras, by the functions of the state that are closed under composition:

==========================  =======================================================================
affine                      h → a h + b, channel by channel
max-plus, min-plus          h → max(h + a, b), or min
rotation                    (h₁, h₂) → r R(θ) (h₁, h₂) + b: multiplication by a complex number
block-affine                several coupled numbers a channel, h → A h + b with a small matrix A
block-affine over keys      the same where the numbers that couple lie along the axis of keys
mobius                      h → (a h + b) / (c h + d)
clamped-affine              h → min(max(a h + b, lo), hi), a of either sign
max-min                     h → max(min(h, a), b): between two limits
log-affine                  log h where h → A h + b: sums are logsumexp, products are sums
block-max-plus, …           the same with maxima, of a few coupled states a channel: also
                            block-min-plus, block-max-min, block-min-max, block-log-affine
nonlinear                   none of these
==========================  =======================================================================

Jacobians: ``diagonal`` (a number a channel), ``block`` (a small matrix for each of many channels),
``full``. Methods: ``scan``; ``march`` where a fused kernel takes the steps one by one (composing
two costs more, as with matrices along keys, states or tags, or they don't compose, but no channels
meet); ``sequential``.
"""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """One stratum."""

    layer: str
    states: tuple[str, ...]
    algebra: str
    jacobian: str
    method: str


def affine(layer: str, *states: str) -> tuple[Row, ...]:
    """Strata of the commonest kind, one a state."""
    return tuple(Row(layer, (s,), "affine", "diagonal", "scan") for s in states)


def max_plus(layer: str, state: str) -> Row:
    return Row(layer, (state,), "max-plus", "diagonal", "scan")


def nonlinear(layer: str, *states: str) -> Row:
    """A matrix on the last step's state, inside a function that is no affine one."""
    return Row(layer, states, "nonlinear", "full", "sequential")


def rotation(layer: str, *states: str) -> Row:
    return Row(layer, states, "rotation", "block", "scan")


TABLE: tuple[Row, ...] = (
    # Gates that see the input alone.
    *affine("MinGRU", "h"),
    *affine("MinGRUPlain", "h"),
    *affine("MinLSTM", "h"),
    *affine("MinLSTMPlain", "h"),
    *affine("QRNN", "c"),
    *affine("QRNNF", "h"),
    *affine("QRNNIFO", "c"),
    *affine("SRU", "c"),
    *affine("RGLRU", "h"),
    *affine("HGRNReal", "h"),
    rotation("HGRN", "h_re", "h_im"),
    *affine("GILR", "s"),
    *affine("GILRLSTM", "s", "c"),
    # State spaces.
    *affine("S6", "h"),
    rotation("S4D", "s_re", "s_im"),
    rotation("S5", "s_re", "s_im"),
    rotation("LRU", "s_re", "s_im"),
    *affine("MegaEMA", "h"),
    # Memories with a running maximum, and linear attention.
    max_plus("WKV4", "p"),
    *affine("WKV4", "a", "b"),
    max_plus("RWKV4", "p"),
    *affine("RWKV4", "a", "b"),
    max_plus("MLSTM", "m"),
    *affine("MLSTM", "n", "C"),
    max_plus("SLSTM", "m"),
    *affine("SLSTM", "n", "c"),
    *affine("GLA", "S"),
    *affine("RetNet", "S"),
    Row("DeltaNet", ("S",), "block-affine over keys", "block", "march"),
    # Signals and probabilities.
    *affine("LeakyIntegrator", "h"),
    max_plus("RunningMax", "m"),
    Row("Biquad", ("y",), "block-affine", "block", "scan"),
    Row("KalmanFilter", ("P",), "mobius", "diagonal", "scan"),
    *affine("KalmanFilter", "m"),
    Row("HMMForward", ("alpha",), "log-affine", "full", "march"),
    # Nonlinear recurrences.
    nonlinear("VCRNN", "h"),
    nonlinear("VCGRU", "h"),
    nonlinear("GRU", "h"),
    nonlinear("LSTM", "h", "c"),
    nonlinear("Elman", "h"),
    nonlinear("MGU", "h"),
    Row("IndRNN", ("h",), "clamped-affine", "diagonal", "scan"),
    nonlinear("LEM", "y", "z"),
    nonlinear("CoRNN", "y", "z"),
)


def rows(layer: str) -> tuple[Row, ...]:
    """The layer's strata, in order."""
    return tuple(r for r in TABLE if r.layer == layer)


#: Leaks and forget gates whose products cannot grow: where the coefficient lies, by the equations
#: and by the domains of hypers (c > 0 in RGLRU, tau > 0 in GLA).
COEFFICIENTS = dict.fromkeys(
    (
        "MinGRU", "MinGRUPlain", "MinLSTM", "MinLSTMPlain", "SRU", "RGLRU", "GILR", "S6", "MegaEMA",
        "GLA", "LeakyIntegrator",
    ),
    "(0, 1)",
)  # fmt: skip
