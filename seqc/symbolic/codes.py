"""Every diagnostic of the mathematics: a stable code and what it means.

A code is never given a second meaning.  The frontend has its own (frontend/codes.py).
"""

from __future__ import annotations

CODES: dict[str, str] = {
    "W101": "a state is nonlinear in its past, so it runs step by step",
    # W102 was: more coupled carries than an algebra was written for
    "W103": "a state is read with a lag of 2 or more, which no algebra at hand can scan",
    "W104": "a state mixes its channels from step to step, which no algebra at hand can scan",
    "W105": "an equation is read with a lag inside a cycle, so it is a state in all but name",
    "W106": "a state is affine in its past, but the proof of it failed",
    "W107": "an algebra that the spec names is not proved to carry its step",
    "W108": "the coefficient of an affine state is beyond 1 in size, so the state grows",
    "E301": "a law of the algebra that a scan relies on is refuted",
    "E302": "a convolution that sees later steps maps what depends on a state",
    "E303": "the log domain is asked for where a coefficient may be negative",
    "E304": "blocks of a Jacobian are asked for where states are not over the same axes",
}
