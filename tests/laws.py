"""Layers whose strata belong to algebras other than the affine one of one state, as specs."""

from __future__ import annotations

HEAD = "size hidden\ninput x[t]: hidden, w[t]: hidden\n"

#: name -> (the algebra that `check` names, spec)
LAWS: dict[str, tuple[str, str]] = {
    "maximum with decay": (
        "max-plus",
        "layer L\n" + HEAD + "state h[t]: hidden = -1\n"
        "h[t] = max(h[t-1] - softplus(w[t]), x[t])\noutput h[t]\n",
    ),
    "minimum": (
        "min-plus",
        "layer L\n" + HEAD + "state h[t]: hidden = 3\n"
        "h[t] = min(h[t-1] + 0.1 * w[t], x[t] + 2)\noutput h[t]\n",
    ),
    "sums of exponentials": (
        "log-affine",
        "layer L\n" + HEAD + "state h[t]: hidden\n"
        "h[t] = logaddexp(h[t-1] - softplus(w[t]), x[t])\noutput h[t]\n",
    ),
    "since, in temporal logic": (
        "max-min",
        "layer L\n" + HEAD + "state h[t]: hidden = -inf\n"
        "h[t] = max(min(h[t-1], sin(w[t])), min(x[t], 0.5))\noutput h[t]\n",
    ),
    "drawn along by a band": (
        "max-min",
        "layer L\n" + HEAD + "state h[t]: hidden = 0.3\n"
        "h[t] = clamp(h[t-1], x[t] - 0.5 * sigmoid(w[t]), x[t] + 0.2)\noutput h[t]\n",
    ),
    "clipped": (
        "clamped-affine",
        "layer L\n" + HEAD + "state h[t]: hidden\n"
        "h[t] = clamp(sigmoid(w[t] + 2) * h[t-1] + x[t], -1, 1)\noutput h[t]\n",
    ),
    "rectified": (
        "clamped-affine",
        "layer L\n" + HEAD + "state h[t]: hidden\n"
        "h[t] = relu(sigmoid(w[t] + 3) * h[t-1] + 0.3 * x[t])\noutput h[t]\n",
    ),
    "rectified, of either sign": (
        "clamped-affine",
        "layer L\n" + HEAD + "state h[t]: hidden\n"
        "h[t] = relu(tanh(3 * w[t]) * h[t-1] + x[t])\noutput h[t]\n",
    ),
    "limits in any order": (
        "clamped-affine",
        "layer L\n" + HEAD + "hyper low = -0.5\nstate h[t]: hidden\n"
        "h[t] = clamp(tanh(2 * w[t]) * h[t-1] + x[t], low, 1 + w[t])\noutput h[t]\n",
    ),
    "continued fraction": (
        "mobius",
        "layer L\n" + HEAD + "state h[t]: hidden = 1\n"
        "a[t] = softplus(w[t])\n"
        "h[t] = a[t] + h[t-1] / (h[t-1] + 0.5 + sigmoid(x[t]))\noutput h[t]\n",
    ),
    "rotation": (
        "rotation",
        "layer L\n" + HEAD + "state p[t]: hidden, q[t]: hidden = 0.5\n"
        "r[t] = sigmoid(w[t] + 3)\n"
        "p[t] = r[t] * (cos(x[t]) * p[t-1] - sin(x[t]) * q[t-1]) + x[t]\n"
        "q[t] = r[t] * (sin(x[t]) * p[t-1] + cos(x[t]) * q[t-1]) - w[t]\noutput p[t], q[t]\n",
    ),
    "momentum": (
        "block-affine",
        "layer L\n" + HEAD + "state p[t]: hidden, v[t]: hidden\n"
        "v[t] = 0.8 * v[t-1] - 0.3 * sigmoid(w[t]) * p[t-1] + x[t]\n"
        "p[t] = p[t-1] + 0.5 * v[t]\noutput p[t], v[t]\n",
    ),
    "delays": (
        "block-affine",
        "layer L\n" + HEAD + "state h[t]: hidden = 0.2\n"
        "h[t] = 0.5 * sigmoid(w[t]) * h[t-1] - 0.3 * h[t-2] + 0.2 * h[t-3] + x[t]\noutput h[t]\n",
    ),
    "four of them": (
        "block-affine",
        "layer L\n" + HEAD + "state a[t]: hidden, b[t]: hidden, c[t]: hidden, d[t]: hidden = 1\n"
        "a[t] = 0.4 * a[t-1] + 0.3 * b[t-1] * sigmoid(w[t]) + x[t]\n"
        "b[t] = 0.5 * b[t-1] - 0.2 * c[t-1]\n"
        "c[t] = 0.3 * c[t-1] + 0.4 * d[t-1] + w[t]\n"
        "d[t] = 0.6 * d[t-1] - 0.3 * a[t-1]\noutput a[t], b[t], c[t], d[t]\n",
    ),
    "variance of a Kalman filter": (
        "mobius",
        "layer L\n" + HEAD + "state p[t]: hidden = 1\n"
        "v[t] = 0.81 * p[t-1] + softplus(w[t])\n"
        "g[t] = v[t] / (v[t] + softplus(x[t]))\n"
        "p[t] = (1 - g[t]) * v[t]\noutput p[t]\n",
    ),
    "best of two paths": (
        "block-max-plus",
        "layer L\n" + HEAD + "state a[t]: hidden, b[t]: hidden = -1\n"
        "a[t] = max(a[t-1] - 0.1, b[t-1] - softplus(w[t])) + x[t]\n"
        "b[t] = max(a[t-1] - 2, b[t-1] - 0.2) + w[t]\noutput a[t], b[t]\n",
    ),
    "shortest of two paths, delayed": (
        "block-min-plus",
        "layer L\n" + HEAD + "state a[t]: hidden = 3\n"
        "a[t] = min(min(a[t-1] + w[t], a[t-2] + x[t]), 2 + x[t])\noutput a[t]\n",
    ),
    "two states of an automaton": (
        "block-max-min",
        "layer L\n" + HEAD + "state a[t]: hidden = inf, b[t]: hidden = -inf\n"
        "a[t] = min(x[t], max(a[t-1], b[t-1]))\n"
        "b[t] = max(min(w[t], a[t-1]), min(b[t-1], 1 - x[t]))\noutput a[t], b[t]\n",
    ),
    "for all runs of an automaton": (
        "block-min-max",
        "layer L\n" + HEAD + "state a[t]: hidden = -0.5, b[t]: hidden = 1\n"
        "a[t] = min(max(a[t-1], x[t]), max(b[t-1], w[t]))\n"
        "b[t] = min(min(b[t-1], max(a[t-1], -w[t])), 2)\noutput a[t], b[t]\n",
    ),
    "two hidden states": (
        "block-log-affine",
        "layer L\n" + HEAD + "state a[t]: hidden, b[t]: hidden = -1\n"
        "a[t] = logaddexp(a[t-1] - 0.4, b[t-1] - softplus(w[t])) + x[t]\n"
        "b[t] = log(exp(a[t-1] - 2) + exp(b[t-1] - 0.3)) - 0.3 * x[t]\noutput a[t], b[t]\n",
    ),
    "one stratum reads another": (
        "max-plus",
        "layer L\n" + HEAD + "state m[t]: hidden, s[t]: hidden, z[t]: hidden\n"
        "m[t] = max(m[t-1] - sigmoid(w[t]), x[t])\n"
        "s[t] = exp(m[t-1] - sigmoid(w[t]) - m[t]) * s[t-1] + exp(x[t] - m[t]) * w[t]\n"
        "z[t] = 0.9 * z[t-1] + m[t-1] * s[t-1]\noutput s[t], z[t]\n",
    ),
    # The group of iterated sums: what a path has passed, and the area that it encloses.
    "declared in the spec": (
        "heisenberg",
        "algebra heisenberg(a, b, c)\n"
        "identity (0, 0, 0)\n"
        "compose  (a2, b2, c2) after (a1, b1, c1) = (a2 + a1, b2 + b1, c2 + c1 + b2 * a1)\n"
        "apply    (u, v) -> (u + a, v + b * u + c)\n\n"
        "layer L\n" + HEAD + "state u[t]: hidden, v[t]: hidden\n"
        "u[t] = heisenberg(0.1 * x[t], 0.1 * w[t], 0.01 * x[t] * w[t])(u[t-1], v[t-1])\n"
        "v[t] = heisenberg(0.1 * x[t], 0.1 * w[t], 0.01 * x[t] * w[t])(u[t-1], v[t-1])\n"
        "output u[t], v[t]\n",
    ),
}

#: Channel by channel, but of no algebra: they march.
MARCHES: dict[str, str] = {
    "logistic": "layer L\n" + HEAD + "state h[t]: hidden = 0.3\n"
    "h[t] = (2 + sigmoid(w[t])) * h[t-1] * (1 - h[t-1]) + 0.01 * sigmoid(x[t])\noutput h[t]\n",
    "coupled": "layer L\n" + HEAD + "state p[t]: hidden, q[t]: hidden = 0.1\n"
    "p[t] = tanh(p[t-1] + q[t-1] * w[t] + x[t])\nq[t] = sigmoid(q[t-1] - p[t])\n"
    "output p[t], q[t]\n",
}

#: Of an algebra that costs more to compose than to apply: they march as well.
KNOWN: dict[str, tuple[str, str]] = {
    "six coupled states": (
        "block-affine",
        "layer L\n" + HEAD + "state a[t]: hidden, b[t]: hidden, c[t]: hidden\n"
        "state d[t]: hidden, e[t]: hidden, f[t]: hidden = 1\n"
        "a[t] = 0.5 * a[t-1] + 0.2 * f[t-1] * sigmoid(w[t]) + x[t]\n"
        "b[t] = 0.5 * b[t-1] - 0.3 * a[t-1]\nc[t] = 0.4 * c[t-1] + 0.3 * b[t-1] + w[t]\n"
        "d[t] = 0.3 * d[t-1] - 0.4 * c[t]\ne[t] = 0.2 * e[t-1] + tanh(x[t]) * d[t-1]\n"
        "f[t] = 0.6 * f[t-1] - 0.1 * e[t-1]\noutput a[t], d[t], f[t]\n",
    ),
    "best of five steps ago": (
        "block-max-plus",
        "layer L\n" + HEAD + "state h[t]: hidden = -1\n"
        "h[t] = max(max(h[t-1] - softplus(w[t]), h[t-5] - 0.5), x[t])\noutput h[t]\n",
    ),
}

#: Coefficients that are exponentials, in either domain.
GROWING = """
layer L
size hidden
input x[t]: hidden, w[t]: hidden
state h[t]: hidden
h[t] = exp(w[t]) * h[t-1] + x[t]
{solve}
output h[t]
"""
