"""Where parameters start: what a spec says of its weights, biases and parameters, drawn."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

import seqc

SIZES = {"input": 30, "hidden": 40}


def drawn(maps: str, declared: str = "", **numbers: float) -> Any:
    """A layer whose one state starts from `v[t]`, a map whose parameters are looked at."""
    spec = (
        f"layer L\nsize input, hidden\nhyper p = 0.5\n{declared}\ninput x[t]: input\n"
        f"state h[t]: hidden\nv[t]: hidden = {maps}\nh[t] = p * tanh(v[t])\noutput h[t]\n"
    )
    torch.manual_seed(0)
    return seqc.compile(spec, backend="reference")(**SIZES, **numbers)


def within(p: Tensor, bound: float) -> bool:
    """Whether numbers look uniform in ± bound: none outside, some near it, their variance right."""
    share = p.abs().max().item() / bound
    return 0.98 < share <= 1 and abs(p.std().item() * math.sqrt(3) / bound - 1) < 0.05


def test_starts_by_rows_and_columns_are_torchs() -> None:
    for name, bound, deviation in (
        ("xavier_uniform", math.sqrt(6 / 70), None),
        ("xavier_uniform(2)", 2 * math.sqrt(6 / 70), None),
        ("xavier_normal", None, math.sqrt(2 / 70)),
        ("kaiming_uniform", math.sqrt(6 / 30), None),
        ("kaiming_uniform(sqrt(5))", 1 / math.sqrt(30), None),
        ("kaiming_normal", None, math.sqrt(2 / 30)),
    ):
        weight = drawn(f"linear(x[t], weight = {name})").v.weight
        if bound is not None:
            assert within(weight, bound), name
        else:
            assert abs(weight.std().item() / deviation - 1) < 0.06, name
    w = drawn("linear(x[t], weight = orthogonal(2))").v.weight
    assert torch.allclose(w.T @ w, 4 * torch.eye(30), atol=1e-5)


def test_a_number_may_be_in_terms_of_sizes_and_hypers() -> None:
    layer = drawn(
        "linear(x[t], weight = uniform(-sqrt(6 / (input + 3 * hidden)), sqrt(6 / (input + "
        "3 * hidden))), bias = -log(hidden) + p ^ 2)",
        p=0.25,
    )
    assert within(layer.v.weight, math.sqrt(6 / 150))
    assert torch.allclose(layer.v.bias, torch.full((40,), -math.log(40) + 0.0625))
    layer.p = 3.0  # it starts as the layer was built
    layer.reset_parameters()
    assert torch.allclose(layer.v.bias, torch.full((40,), -math.log(40) + 0.0625))
    again = pickle.loads(pickle.dumps(copy.deepcopy(layer)))
    again.reset_parameters()
    assert torch.equal(again.v.bias, layer.v.bias)


def test_each_argument_of_a_map_has_a_start() -> None:
    maps = "linear(x[t], h[t-1], weight = (xavier_uniform, orthogonal), bias = uniform(1, 2))"
    layer = drawn(maps)
    of_x, of_h = layer.v.weight.split((30, 40), 1)
    assert within(of_x, math.sqrt(6 / 70))
    assert torch.allclose(of_h.T @ of_h, torch.eye(40), atol=1e-5)
    assert 1 <= layer.v.bias.min() < 1.2
    assert 1.8 < layer.v.bias.max() <= 2


def test_parameters_and_convolutions_take_them_too() -> None:
    layer = drawn(
        "conv(x[t], 3, weight = xavier_uniform, bias = 1) + u * sum(w * x[t], input)",
        "param w: (hidden, input) = kaiming_uniform\nparam u: hidden = 1 / sqrt(hidden)",
    )
    assert within(layer.v.weight, math.sqrt(6 / (3 * 70)))
    assert torch.equal(layer.v.bias, torch.ones(40))
    assert within(layer.w, math.sqrt(6 / 30))
    assert torch.allclose(layer.u, torch.full((40,), 1 / math.sqrt(40)))


def test_a_start_without_a_value_is_refused_when_the_layer_is_built() -> None:
    for maps, told in (
        ("linear(x[t], bias = 1 / (input - 30))", "L: parameter 'v.bias': its start has no value"),
        ("linear(x[t], bias = log(input - 31))", "its start has no value for these sizes"),
        ("linear(x[t], bias = input ^ hidden ^ 9)", "its start has no value for these sizes"),
        ("linear(x[t], weight = uniform(input, 1))", r"uniform\(30, 1\) has its limits out of"),
        ("linear(x[t], weight = normal(0, 1 - input))", "a deviation is not negative"),
    ):
        with pytest.raises(ValueError, match=told):
            drawn(maps)
