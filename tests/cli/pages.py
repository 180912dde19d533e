"""Specs whose pages are looked at, and what reads a page."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

S6 = """
# The selective state space of Mamba (Gu and Dao, 2023)
layer S6
size  hidden, slots
input x[t]: hidden
param A: (hidden, slots) = uniform(0.1, 1)
state h[t]: (hidden, slots)
dt[t]: hidden = softplus(linear(x[t]))
B[t]: slots = linear(x[t], bias = false)
C[t]: slots = linear(x[t], bias = false)
h[t] = exp(-dt[t] * A) * h[t-1] + dt[t] * B[t] * x[t]
y[t] = sum(C[t] * h[t], slots)
output y[t]
"""
GRU = """
layer GRU
size   input, hidden
input  x[t]: input
state  h[t]: hidden
r[t]: hidden = sigmoid(linear(x[t]) + linear(h[t-1]))
u[t]: hidden = sigmoid(linear(x[t]) + linear(h[t-1]))
n[t]: hidden = tanh(linear(x[t]) + r[t] * linear(h[t-1]))
h[t] = (1 - u[t]) * n[t] + u[t] * h[t-1]
output h[t]
"""
DELAYS = """
layer Delays
size  hidden, far = 3
input x[t]: hidden
state h[t]: hidden
state unread[t]: hidden
hyper p = 0.1
param start: hidden = 2
k: hidden = 1e-9 * start ^ 2
late[t] = x[t-far] + h[t-2]
unread[t] = -2 * x[t] - (late[t] - k)
d[t] = cumsum(x[t], hidden)
h[t] = where(drop(x[t], p) > 0, k, where(x[t] < -1, 0, sqrt(abs(k)))) * h[t-1] + d[t]
y[t] = max(late[t], hidden) + shift(h[t], hidden, 1) / exp(unread[t])
output y[t], h[t]
"""


def parsed(text: str) -> ET.Element:
    """The page's tree; it is well-formed as XML too, but for the doctype."""
    return ET.fromstring(text.removeprefix("<!DOCTYPE html>\n"))


def headings(text: str) -> list[str]:
    return [
        "".join(e.itertext()).strip() for e in parsed(text).iter() if re.fullmatch("h[1-4]", e.tag)
    ]


def shown(element: ET.Element) -> str:
    """What is printed of a formula, its structure in braces."""
    inner = (element.text or "") + "".join(shown(e) + (e.tail or "") for e in element)
    if element.tag in ("mfrac", "msub", "msup", "msubsup", "munder", "mover", "msqrt"):
        parts = ",".join(shown(e) for e in element)
        return f"{element.tag[1:]}{{{parts}}}"
    return inner


def equations(text: str) -> dict[str, str]:
    """Left sides to right sides, the first of each."""
    found: dict[str, str] = {}
    for row in parsed(text).iter("tr"):
        cells = row.findall("td")
        if len(cells) == 3 and shown(cells[1]) == "=":
            right = "".join(shown(e) for e in cells[2] if e.tag == "math")
            found.setdefault(shown(cells[0]), right.replace("\u2061", "").replace("\u2062", ""))
    return found
