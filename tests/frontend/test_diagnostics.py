"""What a wrong spec is told: «…» marks where the caret must point."""

from __future__ import annotations

import pytest

from seqc.diagnostics import SeqcError, Severity, Source, render
from seqc.frontend import parse_algebras, parse_spec
from seqc.frontend.messages.codes import CODES

HEAD = """\
layer L
size a, b
hyper p = 0.1
input x[t]: a
state h[t]: a
param w: a = 0
"""
TAIL = "\nu[t] = h[t] * p * w + x[t]\noutput h[t], u[t]\n"
OK = "h[t] = h[t-1]"
COMPLEX = "state z[t]: complex a\nz[t] = z[t-1] * cis(1) + x[t]\n"
GRADIENT = "def f(u) = u\ngradient f(u) = 1\n"
FOK = "h[t] = f(h[t-1])"

#: (code, lines between HEAD and TAIL): one error, whose caret is marked.
IN_A_LAYER = [
    # names
    ("E020", "h[t] = h[t-1] + «zz»[t]"),
    ("E020", "h[t] = h[t-1] + «zz»"),
    ("E020", "h[t] = h[t-1] + «t»"),
    ("E020", "h[t] = h[t-1] + «tanh»"),
    ("E020", "h[t] = h[t-1] + «true»"),
    ("E021", "v[t]: «bb» = 1\nh[t] = h[t-1] * v[t]"),
    ("E021", "v[t]: «2» = 1\nh[t] = h[t-1] * v[t]"),
    ("E021", "h[t] = h[t-1] * sum(x[t], «bb»)"),
    ("E021", "h[t] = h[t-1] * sum(x[t], «p»)"),
    ("E021", "h[t] = h[t-1] * index(«1»)"),
    ("E021", "state C[t]: (a, «a»)\nC[t] = x[t]\nh[t] = h[t-1] * C[t]"),
    ("E022", "h[t] = h[t-1]\n«h[t]» = 3"),
    ("E022", "v[t] = x[t]\n«v»[t] = w\nh[t] = h[t-1] * v[t]"),
    ("E022", "«w» = 3\nh[t] = h[t-1]"),
    ("E022", "size «a»\nh[t] = h[t-1]"),
    ("E023", "«training»[t] = x[t]\nh[t] = h[t-1] * training[t]"),
    ("E023", "«exp»[t] = x[t]\nh[t] = h[t-1] * exp[t]"),
    ("E023", "hyper «lambda» = 2\nh[t] = h[t-1] * lambda"),
    ("E023", "size «_s»\nh[t] = h[t-1] * _s"),
    ("E023", "size «α»\nh[t] = h[t-1] * α"),
    ("E023", "input «state»[t]: a\nh[t] = h[t-1] * state[t]"),
    ("E024", "h[t] = «tanhh»(h[t-1])"),
    ("E024", "h[t] = h[t-1] + «p»(3)"),
    ("E024", "h[t] = h[t-1] + «3(4)»"),
    # time
    ("E040", "h[t] = h[t-1] + «x»"),
    ("E040", "v = «x»\nh[t] = h[t-1] + v"),
    ("E041", "h[t] = h[t-1] + «w[t]»"),
    ("E041", "h[t] = h[t-1] + «p[t-1]»"),
    ("E041", "c = 3\nh[t] = h[t-1] + «c[t]»"),
    ("E041", "param «v[t]»: a = 0\nh[t] = h[t-1] + v"),
    ("E042", "h[t] = h[t-1] + x[«t+1»]"),
    ("E042", "h[t] = h[t-1] + x[«t+b»]"),
    ("E043", "h[t] = h[t-1] + x[«s»]"),
    ("E043", "h[t] = h[t-1] + x[«2*t»]"),
    ("E043", "h[t] = h[t-1] + x[«t-1+1»]"),
    ("E043", "h[t] = h[t-1] + x[«t-b+1»]"),
    ("E043", "h[t] = h[t-1] + x[«t-b-p»]"),
    ("E043", "h[t] = h[t-1] + x[«t-60000-b-60000»]"),
    ("E043", "h[t] = h[t-1] + x[«t-1.5»]"),
    ("E043", "h[t] = h[t-1] + x[t-«p»]"),
    ("E043", "h[t] = h[t-1] + x[t-«q»]"),
    ("E043", "h[t] = h[t-1] + x[«t-99999999999999999999999»]"),
    ("E043", "h[t] = h[t-1] + «(x[t] + 1)[t-1]»"),
    ("E043", "«h[t-1]» = 3"),
    ("E044", "h[t] = «h[t]» + 1"),
    ("E044", "v[t] = «h[t]» + x[t-1]\nh[t] = v[t]"),
    ("E044", "c = «c» + 1\nh[t] = h[t-1] * c"),
    ("E045", "v[t] = «v[t-1]» + 1\nh[t] = h[t-1] * v[t]"),
    ("E045", "v[t] = h[t-1] + 1\nh[t] = «v[t-1]»"),
    ("E046", "c = «h[t-1]»\nh[t] = h[t-1] * c"),
    ("E046", "state g[t]: a = «x[t]»\ng[t] = x[t]\nh[t] = h[t-1] * g[t]"),
    ("E050", "v[t]: a = conv(«h[t-1]», 3)\nh[t] = v[t]"),
    # axes
    ("E047", "v[t] = tanh(«linear(x[t])»)\nh[t] = h[t-1] * v[t]"),
    ("E047", "state «g[t]»\ng[t] = x[t]\nh[t] = h[t-1] * g[t]"),
    ("E047", "input «y[t]»\nh[t] = h[t-1] * y[t]"),
    ("E048", "v[t]: b = «tanh(x[t])»\nh[t] = h[t-1] * sum(v[t], b)"),
    ("E048", "v[t]: 1 = «x[t]»\nh[t] = h[t-1] * v[t]"),
    ("E048", "h[t]: «b» = x[t]"),
    ("E048", "state g[t]: 1 = «w»\ng[t] = 1\nh[t] = h[t-1] * g[t]"),
    ("E049", "h[t] = h[t-1] * sum(«x[t]», b)"),
    ("E049", "h[t] = h[t-1] * max(«p», b)"),
    ("E049", "h[t] = h[t-1] * «softmax(x[t], b)»"),
    # axes called otherwise
    ("E021", "h[t] = h[t-1] * sum(rename(x[t], a = «bb»), b)"),
    ("E021", "h[t] = h[t-1] * sum(rename(x[t], «aa» = b), b)"),
    ("E021", "h[t] = h[t-1] * sum(rename(x[t], a = «3»), b)"),
    ("E049", "size c = b\nh[t] = h[t-1] * sum(rename(x[t], «b = c»), c)"),
    ("E051", "size c = a\nh[t] = sum(rename(x[t] * index(c), «a = c»), c)"),
    ("E051", "h[t] = sum(rename(x[t], «a = a»), a)"),
    ("E051", "size c = a, d = a\nh[t] = sum(rename(x[t], a = c, «a = d»), d)"),
    ("E051", "size c = a, d = a\nh[t] = sum(rename(w * index(c), a = d, «c = d»), d)"),
    ("E052", "h[t] = h[t-1] * sum(rename(x[t], «a = b»), b)"),
    ("E060", "h[t] = h[t-1] * «rename(x[t])»"),
    ("E060", "size c = a\nh[t] = h[t-1] * «rename(a = c, x[t])»"),
    ("E060", "size c = a\nh[t] = h[t-1] * «rename(x[t], c, a = c)»"),
    ("E047", "v[t] = «prefix(0.5, p, p)»\nh[t] = h[t-1] * v[t]"),
    ("E047", "v[t]: (a, b) = «prefix(0.5, p, p)»\nh[t] = h[t-1] * sum(v[t], b)"),
    ("E062", "h[t] = h[t-1] + prefix(«h[t-1]», p, p)"),
    # choices
    ("E055", "choice f = tanh, «tahn»\nh[t] = f(h[t-1])"),
    ("E055", "choice f = tanh, «clamp»\nh[t] = f(h[t-1])"),
    ("E055", "choice f = tanh, «max»\nh[t] = f(h[t-1])"),
    ("E055", "choice f = tanh, relu, «tanh»\nh[t] = f(h[t-1])"),
    ("E060", "choice f = tanh, relu\nh[t] = «f(h[t-1], 2)»"),
    ("E020", "choice f = tanh, relu\nh[t] = f(h[t-1]) + «f»"),
    ("E022", "choice f = tanh, relu\n«f»[t] = x[t]\nh[t] = f(h[t-1])"),
    ("E023", "choice «tanh» = tanh, relu\nh[t] = tanh(h[t-1])"),
    ("E094", "choice f = tanh, relu\nhyper q > «f» = 1\nh[t] = f(h[t-1]) + q"),
    # maps that are declared
    ("E064", "map f(u): a = «tanh(linear(u))»\nh[t] = h[t-1] + f(x[t])"),
    ("E064", "map f(u): a = «conv(u, 3)»\nh[t] = h[t-1] + f(x[t])"),
    ("E064", "map f(u): a = «w»\nh[t] = h[t-1] + f(x[t])"),
    ("E064", "map f(u): a = linear(u)\nc = «f(w)»\nh[t] = h[t-1] + c + f(x[t])"),
    ("E054", "map f(u): a = «linear(x[t])»\nh[t] = h[t-1] + f(x[t])"),
    ("E054", "map f(u, v): a = «linear(v, u)»\nh[t] = h[t-1] + f(x[t], x[t])"),
    ("E054", "map f(u): a = «linear(u, u)»\nh[t] = h[t-1] + f(x[t])"),
    ("E054", "map f(u): a = linear(u)\nv[t]: b = linear(x[t])\nh[t] = f(h[t-1]) + «f(v[t])»"),
    ("E053", "map f(u): «(2, a)» = linear(u)\nh[t] = h[t-1] + f(x[t])"),
    ("E060", "map f(u): a = linear(u)\nh[t] = h[t-1] + «f(x[t], x[t])»"),
    ("E061", "map f(u): a = linear(u)\nh[t] = h[t-1] + f(«u» = x[t])"),
    ("E061", "map f(u): a = linear(u, «wight» = 0)\nh[t] = h[t-1] + f(x[t])"),
    ("E062", "map f(u): a = linear(u)\nh[t] = h[t-1] + f(«w») + f(x[t])"),
    ("E062", "map f(u): a = linear(u, weight = «(0, 1)»)\nh[t] = h[t-1] + f(x[t])"),
    ("E020", "map f(u): a = linear(u)\nh[t] = h[t-1] + «f» + f(x[t])"),
    ("E021", "map f(u): «c» = linear(u)\nh[t] = h[t-1] + x[t] * f(x[t])"),
    ("E022", "map f(u): a = linear(u)\n«f»[t] = x[t]\nh[t] = h[t-1] + f(x[t])"),
    ("E023", "map «tanh»(u): a = linear(u)\nh[t] = h[t-1] + tanh(x[t])"),
    ("E041", "map f(u): a = linear(u)\nh[t] = h[t-1] + «f[t]» + f(x[t])"),
    ("E070", "map f(u): «complex a» = linear(u)\nh[t] = h[t-1] + re(f(x[t]))"),
    ("E048", "map f(u): (a, b) = linear(u)\nv[t]: a = «f(x[t])»\nh[t] = h[t-1] + v[t]"),
    # bundles
    ("E053", "g[t]: (2, a) = linear(x[t])\nh[t] = h[t-1] * «g[t]» + g[t][1]"),
    ("E053", "g[t]: (2, a) = linear(x[t])\nh[t] = h[t-1] * «g» + g[t][0] + g[t][1]"),
    ("E053", "g[t]: (2, a) = linear(x[t])\nh[t] = h[t-1] * g[t][«2»] + g[t][0] + g[t][1]"),
    ("E053", "g[t]: (2, a) = linear(x[t])\nh[t] = h[t-1] * g[t][«t»] + g[t][0] + g[t][1]"),
    (
        "E053",
        "g[t]: (2, a) = linear(x[t])\nf[t]: (3, a) = sigmoid(«g[t]»)\n"
        "h[t] = h[t-1] * f[t][0] + f[t][1] + f[t][2] + g[t][1]",
    ),
    ("E053", "«g»: (2, a) = w\nh[t] = h[t-1] * g[t][0] + g[t][1]"),
    ("E053", "state g[t]: «(2, a)»\ng[t] = x[t]\nh[t] = h[t-1] * g[t]"),
    ("E053", "param g: «(2, a)» = 0\nh[t] = h[t-1] * g"),
    ("E053", "g[t]: (2, a) = linear(x[t])\noutput «g[t]»\nh[t] = h[t-1] * g[t][0] + g[t][1]"),
    (
        "E022",
        "g[t]: (2, a) = linear(x[t])\n«g_1»[t] = x[t]\nh[t] = h[t-1] * g[t][0] + g[t][1] + g_1[t]",
    ),
    ("E021", "g[t]: («65», a) = x[t]\nh[t] = h[t-1]"),
    ("E021", "g[t]: («1», a) = x[t]\nh[t] = h[t-1] * g[t]"),
    ("E021", "g[t]: (2, «2», a) = x[t]\nh[t] = h[t-1] * g[t][0] + g[t][1]"),
    ("E048", "g[t]: (2, a) = «w * index(b)»\nh[t] = h[t-1] * g[t][0] + g[t][1]"),
    # functions
    ("E060", "h[t] = «tanh(h[t-1], 2)»"),
    ("E060", "h[t] = «softmax(h[t-1])»"),
    ("E060", "v[t]: a = «conv(x[t])»\nh[t] = h[t-1] * v[t]"),
    ("E060", "v[t]: a = «linear()»\nh[t] = h[t-1] * v[t]"),
    ("E060", "param v: a = «normal(1)»\nh[t] = h[t-1] * v"),
    ("E061", "h[t] = tanh(«u» = h[t-1])"),
    ("E061", "h[t] = softmax(«u» = h[t-1], axis = a)"),
    ("E061", "v[t]: a = linear(x[t], «bais» = false)\nh[t] = h[t-1] * v[t]"),
    ("E061", "v[t]: a = linear(x[t], bias = false, «bias» = false)\nh[t] = h[t-1] * v[t]"),
    ("E062", "v[t]: a = linear(x[t], bias = «flase»)\nh[t] = h[t-1] * v[t]"),
    ("E062", "v[t]: a = linear(x[t], bias = «w»)\nh[t] = h[t-1] * v[t]"),
    ("E062", "v[t]: a = conv(x[t], 3, causal = «0»)\nh[t] = h[t-1] * v[t]"),
    ("E088", "v[t]: a = linear(x[t], bias = «x[t]»)\nh[t] = h[t-1] * v[t]"),
    ("E088", "v[t]: a = linear(x[t], bias = «orthogonal»)\nh[t] = h[t-1] * v[t]"),
    ("E088", "v[t]: a = linear(x[t], bias = «xavier_uniform»)\nh[t] = h[t-1] * v[t]"),
    ("E088", "v[t]: a = linear(x[t], bias = «inf»)\nh[t] = h[t-1] * v[t]"),
    ("E062", "v[t]: a = linear(x[t], weight = «(0, 1)»)\nh[t] = h[t-1] * v[t]"),
    ("E062", "v[t]: a = linear(x[t], x[t-1], weight = «(0, 1, 2)»)\nh[t] = h[t-1] * v[t]"),
    ("E088", "v[t]: a = linear(x[t], x[t-1], weight = (0, «xavier»))\nh[t] = h[t-1] * v[t]"),
    ("E062", "v[t]: a = conv(x[t], «0»)\nh[t] = h[t-1] * v[t]"),
    ("E062", "v[t]: a = conv(x[t], «p»)\nh[t] = h[t-1] * v[t]"),
    ("E062", "v[t]: a = linear(bias = false, «x[t]»)\nh[t] = h[t-1] * v[t]"),
    ("E062", "v[t]: a = linear(«w»)\nh[t] = h[t-1] * v[t]"),
    ("E062", "h[t] = drop(h[t-1], «w»)"),
    ("E062", "c = «drop(w, p)»\nh[t] = h[t-1] * c"),
    ("E062", "h[t] = shift(h[t-1], a, «p»)"),
    ("E063", "h[t] = «(h[t-1] > 0)» * 2"),
    ("E063", "h[t] = «h[t-1] > 0»"),
    ("E064", "c: a = «linear(w)»\nh[t] = h[t-1] * c"),
    ("E065", "v[t]: a = linear(x[t]) + «linear(tanh(x[t]))»\nh[t] = h[t-1] * v[t]"),
    ("E066", "v[t]: a = linear(x[t]) + «linear(x[t-1])»\nh[t] = h[t-1] * v[t]"),
    ("E067", "h[t] = where(«0 < h[t-1] < 1», 1, 0)"),
    ("E068", "h[t] = «(h[t-1], 1)»"),
    ("E069", "v[t]: b = «conv(x[t], 2, depthwise = true)»\nh[t] = h[t-1] * sum(v[t], b)"),
    ("E069", "v[t]: b = «blockwise(x[t], a)»\nh[t] = h[t-1] * sum(v[t], b)"),
    ("E069", "v[t]: a = «blockwise(x[t], b)»\nh[t] = h[t-1] * v[t]"),
    ("E062", "v[t]: a = blockwise(x[t], «2»)\nh[t] = h[t-1] * v[t]"),
    ("E060", "v[t]: a = «blockwise(x[t])»\nh[t] = h[t-1] * v[t]"),
    # complex values
    ("E070", COMPLEX + "h[t] = «z[t]»"),
    ("E070", COMPLEX + "v[t]: a = «z[t] * x[t]»\nh[t] = h[t-1] * v[t]"),
    ("E070", COMPLEX + "h[t] = h[t-1] * re(«tanh(z[t])»)"),
    ("E070", COMPLEX + "h[t] = h[t-1] * re(«max(z[t], 1)»)"),
    ("E070", COMPLEX + "h[t] = h[t-1] * re(«max(z[t], a)»)"),
    ("E070", COMPLEX + "h[t] = h[t-1] * where(«z[t] > 1», 1, 0)"),
    ("E070", COMPLEX + "h[t] = h[t-1] * where(«z[t]», 1, 0)"),
    ("E070", COMPLEX + "h[t] = h[t-1] * re(cis(«z[t]»))"),
    ("E070", COMPLEX + "h[t] = h[t-1] * re(«z[t] ^ p»)"),
    ("E070", COMPLEX + "h[t] = h[t-1] * re(«2 ^ z[t]»)"),
    ("E070", COMPLEX + "h[t] = h[t-1] * drop(x[t], «z[t]»)"),
    ("E070", COMPLEX + "v[t]: b = linear(«z[t]»)\nh[t] = h[t-1] * sum(v[t], b)"),
    ("E070", COMPLEX + "h[t] = affine(«z[t]», w)(h[t-1])"),
    ("E070", "state g[t]: a = «cis(w)»\ng[t] = x[t]\nh[t] = h[t-1] * g[t]"),
    ("E071", COMPLEX + "h[t] = h[t-1] * re(z[t])\noutput «z[t]»"),
    ("E071", "input y[t]: «complex a»\nh[t] = h[t-1] * re(y[t])"),
    ("E022", COMPLEX + "«z_re»[t] = 2 * x[t]\nh[t] = h[t-1] * re(z[t]) * z_re[t]"),
    ("E022", "«v_im» = 2\nv = cis(w)\nh[t] = h[t-1] * re(v) * v_im"),
    ("E048", "state z[t]: complex a\nz[t]: «a» = x[t]\nh[t] = h[t-1] * re(z[t])"),
    ("E006", "v[t]: «real» a = 3\nh[t] = h[t-1] * v[t]"),
    # statements
    ("E085", "«x[t]» = 3\nh[t] = h[t-1]"),
    ("E086", "size s = «0»\nh[t] = h[t-1] * s"),
    ("E086", "size s = «2.5»\nh[t] = h[t-1] * s"),
    ("E086", "size «s = s»\nh[t] = h[t-1] * s"),
    ("E021", "size s = «aa»\nh[t] = h[t-1] * s"),
    ("E087", "hyper «q»\nh[t] = h[t-1] * q"),
    ("E087", "hyper q = «inf»\nh[t] = h[t-1] * q"),
    ("E088", "param «v: a»\nh[t] = h[t-1] * v"),
    ("E088", "param v: a = «nrmal(0, 1)»\nh[t] = h[t-1] * v"),
    ("E088", "param v: a = normal(0, «w»)\nh[t] = h[t-1] * v"),
    ("E088", "param v: a = normal(0, «sin(a)»)\nh[t] = h[t-1] * v"),
    ("E088", "param v: a = normal(0, «a > 1»)\nh[t] = h[t-1] * v"),
    ("E088", "param v: a = normal(0, «1 / w»)\nh[t] = h[t-1] * v"),
    ("E088", "param v: a = uniform(0, «inf»)\nh[t] = h[t-1] * v"),
    ("E088", "param v: a = «w + 1»\nh[t] = h[t-1] * v"),
    ("E088", "param v: a = «kaiming_normal»\nh[t] = h[t-1] * v"),
    ("E088", f"param v: a = normal(0, «{'a + ' * 70}a»)\nh[t] = h[t-1] * v"),
    ("E088", "param v: a = «orthogonal»\nh[t] = h[t-1] * v"),
    ("E089", "input y[t]: a = «3»\nh[t] = h[t-1] * y[t]"),
    ("E008", "h[t] = h[t-1] * «1e999»"),
    # spelling
    ("E004", "h[t] = «(»h[t-1]"),
    ("E004", "h[t] = tanh«(»h[t-1] +\n3"),
    ("E005", "h[t] = h[t-1]«)»"),
    ("E005", "h[t] = (h[t-1«)»"),
    ("E006", "h[t] =«»"),
    ("E006", "h[t]«»"),
    ("E006", "«sate» g[t]: a"),
    ("E006", "h[t] = h[t-1] «**» 2"),
    ("E006", "h[t] = 2 «h»[t-1]"),
    ("E006", "«output»[t] = 3"),
    ("E006", "v[t]: «c» a = 3\nh[t] = h[t-1] * v[t]"),
    ("E007", "h[t] = h[t-1] «@» w"),
    ("E007", "h[t] = h[t-1] «−» w"),
    # promised
    ("E100", "«space rows, cols»\nh[t] = h[t-1]"),
    ("E101", "h[t] = «conv2d(h[t-1], 3)»"),
    ("E091", "h[t] = 1 + «affine(p, w)(h[t-1])»"),
    ("E091", "g[t] = «affine(p, w)(h[t-1])»\nh[t] = g[t]"),
    ("E091", "h[t] = affine(p, w)(«h[t-2]»)"),
    ("E091", "h[t] = affine(p, w)(«x[t]»)"),
    ("E091", "h[t] = «affine(p)»(h[t-1])"),
    ("E091", "state g[t]: a\ng[t] = g[t-1]\nh[t] = «affine(p, w)(g[t-1])»"),
    ("E091", "state g[t]: a\ng[t] = g[t-1]\nh[t] = «rotation(p, w, p, p)(h[t-1], g[t-1])»"),
    ("E091", "state g[t]: complex a\ng[t] = «affine(w, w)(g[t-1])»\nh[t] = re(g[t])"),
    ("E091", "h[t] = «rotation(p, w, p, p)(h[t-1])»"),
    ("E024", "h[t] = «affin»(p, w)(h[t-1])"),
    ("E093", "h[t] = h[t-1]\nsolve newton(«jacobian = wide»)"),
    ("E093", "h[t] = h[t-1]\nsolve newton(«tolerance = 0»)"),
    ("E093", "h[t] = h[t-1]\nsolve newton(«iterations = 2.5»)"),
    ("E093", "h[t] = h[t-1]\nsolve newton(«damping = 1»)"),
    ("E093", "h[t] = h[t-1]\nsolve h newton(«1e-5»)"),
    ("E093", "h[t] = h[t-1]\nsolve h «guess»"),
    ("E093", "h[t] = h[t-1]\nsolve «x» scan"),
    ("E093", "h[t] = h[t-1]\nsolve scan(«domain = wide»)"),
    ("E093", "h[t] = h[t-1]\nsolve sequential(«domain = log»)"),
    ("E022", "h[t] = h[t-1]\nsolve h scan\n«solve h sequential»"),
    ("E094", "h[t] = h[t-1]\nhyper «q == 1» = 1"),
    ("E094", "h[t] = h[t-1]\nhyper q > «r» = 1"),
    ("E095", "h[t] = h[t-1]\nhyper 0 < q <= 1 = «2»"),
    ("E096", "h[t] = h[t-1]\n«gradient truncated»"),
    ("E096", "h[t] = h[t-1]\ngradient truncated(«0»)"),
    ("E096", "h[t] = h[t-1]\ngradient stationary(0, «2»)"),
    ("E096", "h[t] = h[t-1]\ngradient stationary(0, 0.5, «1»)"),
    ("E096", "h[t] = h[t-1]\ngradient «x» exact"),
    ("E096", "h[t] = h[t-1]\ngradient exact(«1»)"),
    ("E096", "h[t] = h[t-1]\ngradient «sideways»"),
    ("E022", "h[t] = h[t-1]\ngradient exact\n«gradient stationary»"),
    ("E006", "h[t] = f(h[t-1])\ndef f(u) = u\ngradient f «g»(u) = 1"),
    ("E106", "h[t] = h[t-1]\n«penalty budget = mean(abs(w - p))»"),
]

#: (code, a whole file)
WHOLE_FILES = [
    ("E080", "«»"),
    ("E080", "«»\n# only a comment\n"),
    ("E080", "«def f(u) = u»"),
    ("E081", "«size a»\nlayer L\nstate h[t]: 1\nh[t] = h[t-1]\noutput h[t]"),
    ("E082", "«layer L»\nstate h[t]: 1\nh[t] = h[t-1]"),
    ("E083", "layer L\nstate h[t]: 1\nh[t] = h[t-1]\noutput «g[t]»"),
    ("E083", "layer L\ninput x[t]: 1\nstate h[t]: 1\nh[t] = h[t-1] * x[t]\noutput «x[t]»"),
    ("E040", "layer L\nstate h[t]: 1\nh[t] = h[t-1]\noutput «h»"),
    ("E043", "layer L\nstate h[t]: 1\nh[t] = h[t-1]\noutput «h[t-1]»"),
    ("E022", "layer L\nstate h[t]: 1\nh[t] = h[t-1]\noutput h[t], «h[t]»"),
    ("E084", "layer L\nstate «h»[t]: 1\noutput h[t]"),
    ("E040", "layer L\nstate «h»: 1\nh[t] = h[t-1]\noutput h[t]"),
    ("E040", "layer L\nstate h[t]: 1\n«h» = 3\noutput h[t]"),
    ("E023", "layer «class»\nstate h[t]: 1\nh[t] = h[t-1]\noutput h[t]"),
    ("E025", "def f(u) = 1 + «f»(u)\n" + HEAD + OK + TAIL),
    ("E025", "def f(u) = «g»(u)\ndef g(u) = f(u)\n" + HEAD + OK + TAIL),
    ("E026", "def f(u) = u * «v»\n" + HEAD + OK + TAIL),
    ("E041", "def f(u) = «u[t]»\n" + HEAD + OK + TAIL),
    ("E064", "def f(u) = «linear(u)»\n" + HEAD + OK + TAIL),
    ("E024", "def f(u) = «tnh»(u)\n" + HEAD + OK + TAIL),
    ("E026", "def f(u) = rename(u, «a» = u)\n" + HEAD + OK + TAIL),
    ("E022", "def f(u, «u») = u\n" + HEAD + OK + TAIL),
    ("E022", "def f(u) = u\ndef «f»(v) = v\n" + HEAD + OK + TAIL),
    ("E023", "def «tanh»(u) = u\n" + HEAD + OK + TAIL),
    (
        "E090",
        "«algebra mine(a, b)»\nidentity (1, 0)\ncompose (c, d) after (e, f) = (c, d)\n"
        + HEAD
        + OK
        + TAIL,
    ),
    ("E022", GRADIENT + "gradient «f»(u) = 2\n" + HEAD + FOK + TAIL),
    ("E092", "gradient «f»(u) = 1\n" + HEAD + OK + TAIL),
    ("E092", "gradient «f»(u) = 1\ndef f(u) = u\n" + HEAD + FOK + TAIL),
    ("E092", "gradient «relu»(u) = 1\n" + HEAD + OK + TAIL),
    ("E092", "def f(u) = u\n«gradient f(u, v) = 1»\n" + HEAD + FOK + TAIL),
    ("E092", "def f(u) = u\n«gradient f = 1»\n" + HEAD + FOK + TAIL),
    ("E092", "def f(u) = u\ngradient f(u) = «(1, u)»\n" + HEAD + FOK + TAIL),
    ("E006", "def f(u) = u\ngradient f(«2») = 1\n" + HEAD + FOK + TAIL),
    ("E025", "def f(u) = u\ngradient f(u) = «f»(u)\n" + HEAD + FOK + TAIL),
    ("E026", "def f(u) = u\ngradient f(v) = «u»\n" + HEAD + FOK + TAIL),
    (
        "E092",
        "def f(u, a) = sum(u, a)\ngradient f(u, a) = (1, 0)\n"
        + HEAD
        + "h[t] = h[t-1] * «f(x[t], a)»"
        + TAIL,
    ),
]

#: (code, an algebra file)
ALGEBRAS = [
    ("E090", "«algebra mine(a)»\nidentity 0\ncompose a2 after a1 = a2 + a1"),
    ("E090", "algebra mine(a)\nidentity «(0, 1)»\ncompose a2 after a1 = a2 + a1\napply h -> h + a"),
    ("E090", "algebra m(a)\nidentity 0\n«compose (b, a2) after a1 = a2 + a1»\napply h -> h + a"),
    ("E020", "algebra mine(a)\nidentity 0\ncompose a2 after a1 = a2 + «b»\napply h -> h + a"),
    ("E041", "algebra mine(a)\nidentity 0\ncompose a2 after a1 = a2 + «a1[t]»\napply h -> h + a"),
    ("E081", "«identity 0»"),
    ("E090", "algebra m(«a >= b»)\nidentity 0\ncompose a2 after a1 = a2 + a1\napply h -> h + a"),
    ("E090", "algebra m(a)\nidentity 0\ncompose a2 after a1 = a2\napply (h, g) -> «h + a»"),
    ("E022", "algebra m(a)\nidentity 0\ncompose a2 after a1 = a2\napply «a» -> a"),
    ("E022", "algebra «max»(a)\nidentity 0\ncompose a2 after a1 = a2\napply h -> h"),
    ("E090", "algebra m(A: row)\nidentity 0\ncompose B after C = B + C\n«apply h -> h»"),
    ("E048", "algebra m(A: row)\nidentity «index(k)»\ncompose B after C = B\napply h: row -> A"),
    ("E049", "algebra m(A: row)\nidentity 0\ncompose B after C = sum(B, «k»)\napply h: row -> A"),
    ("E020", "algebra m(A: row)\nidentity 0\ncompose B after C = «D»\napply h: row -> A"),
    ("E024", "algebra m(a)\nidentity 0\ncompose a2 after a1 = «foo»(a1)\napply h -> h + a"),
    ("E064", "algebra m(a)\nidentity 0\ncompose a2 after a1 = «linear(a1)»\napply h -> h + a"),
]


def marked(text: str) -> tuple[str, tuple[int, int, int, int]]:
    """The text without its marks, and the place between them."""
    before, inside, after = text.replace("»", "«").split("«")
    start = before.count("\n") + 1, len(before) - before.rfind("\n")
    through = before + inside
    end = through.count("\n") + 1, len(through) - through.rfind("\n")
    if not inside:
        end = (end[0], end[1] + 1)  # a caret alone
    return before + inside + after, (*start, *end)


def check(code: str, text: str, read: object = parse_spec) -> None:
    source, place = marked(text)
    assert callable(read)
    with pytest.raises(SeqcError) as caught:
        read(Source(source, "bad.seq"))
    found = caught.value.diagnostics
    assert [d.code for d in found] == [code], str(caught.value)
    (diagnostic,) = found
    span = diagnostic.span
    assert span is not None
    assert (span.line, span.column, span.end_line, span.end_column) == place, str(caught.value)
    assert diagnostic.severity is Severity.ERROR


@pytest.mark.parametrize("code, lines", IN_A_LAYER)
def test_in_a_layer(code: str, lines: str) -> None:
    check(code, HEAD + lines + TAIL)


@pytest.mark.parametrize("code, text", WHOLE_FILES)
def test_whole_files(code: str, text: str) -> None:
    check(code, text)


@pytest.mark.parametrize("code, text", ALGEBRAS)
def test_algebras(code: str, text: str) -> None:
    check(code, text, parse_algebras)


def test_every_code_is_shown_here_or_among_the_hostile_files() -> None:
    hostile = {"E001", "E002", "E003", "E009", "E099"}
    tested = {code for code, _ in IN_A_LAYER + WHOLE_FILES + ALGEBRAS} | hostile
    assert {c for c in CODES if c.startswith("E")} == tested


def test_all_semantic_errors_come_at_once() -> None:
    text = HEAD + "v[t] = linear(x[t])\nh[t] = h[t-1] + qq\ng[t] = h[t+1] * x\n" + TAIL
    with pytest.raises(SeqcError) as caught:
        parse_spec(Source(text))
    assert [d.code for d in caught.value.diagnostics] == ["E047", "E020", "E042", "E040"]


def test_an_error_is_not_followed_by_errors_of_its_own() -> None:
    text = HEAD + "v[t] = qq * x[t]\ng[t] = v[t] + v[t-1]\nh[t] = h[t-1] + sum(g[t], a)" + TAIL
    with pytest.raises(SeqcError) as caught:
        parse_spec(Source(text))
    assert [d.code for d in caught.value.diagnostics] == ["E020"]


@pytest.mark.parametrize(
    "line, hint",
    [
        ("v[t]: hiden = 1", "did you mean `hidden`?"),
        ("v[t] = hh[t]", "did you mean `h`?"),
        ("v[t] = h[t+1]", "only the present and the past can be read: `h[t]`, `h[t-1]`"),
        ("v[t] = linear(h[t-1])", "write `v[t]: hidden = …`"),
        ("v[t] = sigmod(h[t-1])", "did you mean `sigmoid`?"),
        ("v[t] = h[t-1] ** 2", "a power is written `^`"),
        ("v[t]: hidden = linear(h[t-1], Bias = false)", "did you mean `bias`?"),
        ("v[t] = max(1, hidden)", "write it first: `max(hidden, …)`"),
        ("training[t] = 1", "choose another name, for example `training_`"),
    ],
)
def test_hints(line: str, hint: str) -> None:
    head = "layer L\nsize hidden\nstate h[t]: hidden\nh[t] = h[t-1]\n"
    with pytest.raises(SeqcError) as caught:
        parse_spec(Source(f"{head}{line}\noutput h[t]"))
    assert hint in caught.value.diagnostics[0].hint


@pytest.mark.parametrize(
    "code, lines",
    [
        ("W001", "size «unused»\nh[t] = h[t-1]"),
        ("W001", "hyper «unused» = 1\nh[t] = h[t-1]"),
        ("W001", "input «unused»[t]: a\nh[t] = h[t-1]"),
        ("W001", "param «unused»: a = 0\nh[t] = h[t-1]"),
        ("W001", "«unused»[t] = x[t]\nh[t] = h[t-1]"),
        ("W001", "«unused» = 3\nh[t] = h[t-1]"),
        ("W001", "state «unused»[t]: a\nunused[t] = unused[t-1]\nh[t] = h[t-1]"),
        ("W001", "def «unused»(u) = u\nh[t] = h[t-1]"),
        ("W001", "def f(u, «v») = u\nh[t] = f(h[t-1], 1)"),
        (
            "W002",
            "v[t]: b = linear(x[t])\n«o[t]» = v[t] * h[t-1]\nq[t] = tanh(o[t])\nh[t] = h[t-1]\n"
            "output q[t]",
        ),
        ("W003", "param «v»: a = 0\nh[t] = h[t-1] * floor(v)"),
        ("W003", "param «v»: a = 0\nh[t] = where(h[t-1] > v, 1, h[t-1])"),
        ("W003", "param «v»: 1 = 0\nh[t] = drop(h[t-1], v)"),
        ("W003", "v[t]: a = «linear(x[t])»\nh[t] = h[t-1] * where(v[t], 1, 2)"),
        ("W003", "v[t]: a = «linear(x[t])»\nh[t] = h[t-1] * sign(v[t-1])"),
        ("W003", "param «v»: a = 0\nstate g[t]: a = sign(v)\ng[t] = g[t-1]\nh[t] = g[t]"),
    ],
)
def test_warnings(code: str, lines: str) -> None:
    text, place = marked(HEAD + lines + TAIL)
    layers, warnings = parse_spec(Source(text))
    assert len(layers) == 1
    warnings = tuple(w for w in warnings if "`b`" not in w.message)
    assert [w.code for w in warnings] == [code]
    span = warnings[0].span
    assert span is not None
    assert (span.line, span.column, span.end_line, span.end_column) == place
    assert warnings[0].severity is Severity.WARNING


@pytest.mark.parametrize(
    "lines",
    [
        "o[t]: (a, b) = v[t] * x[t]\noutput o[t]",  # declared
        "o[t] = v[t] * x[t]\nr[t] = sum(o[t], b)\noutput r[t]",  # reduced
        "size c = b\no[t] = v[t] * x[t]\nr[t] = sum(rename(o[t], b = c), c)\noutput r[t]",
        "o[t] = v[t] * x[t]\nstate C[t]: (a, b)\nC[t] = C[t-1] + o[t]\noutput C[t]",  # stored
    ],
)
def test_an_outer_product_that_is_meant_gets_no_warning(lines: str) -> None:
    text = HEAD + OK + "\nv[t]: b = linear(x[t])\n" + lines + TAIL
    assert parse_spec(Source(text))[1] == ()


@pytest.mark.parametrize(
    "lines",
    [
        "param v: a = 0\nh[t] = h[t-1] * (floor(v) + v)",
        "param v: a = 0\nh[t] = h[t-1] * where(v > 0, v, 1)",
        "v[t]: a = linear(x[t])\nh[t] = h[t-1] * sign(v[t]) + v[t-1]",
        "state g[t]: a = learned\ng[t] = g[t-1]\nh[t] = sign(g[t])",
    ],
)
def test_a_parameter_that_learns_somewhere_gets_no_warning(lines: str) -> None:
    assert [w.code for w in parse_spec(Source(HEAD + lines + TAIL))[1] if w.code == "W003"] == []


def test_a_surrogate_gradient_makes_a_parameter_learn() -> None:
    head = "def f(u) = sign(u)\ngradient f(u) = exp(-u * u)\n" + HEAD
    text = head + "param v: a = 0\nh[t] = h[t-1] * f(x[t] - v)" + TAIL
    assert [w.code for w in parse_spec(Source(text))[1] if w.code == "W003"] == []


def test_a_parameter_that_never_learns_is_told_why() -> None:
    text = HEAD + "param v: a = 0\nq = 2 * v\nh[t] = h[t-1] * sign(q) + b" + TAIL
    (warning,) = parse_spec(Source(text, "cell.seq"))[1]
    assert (
        render(warning)
        == """\
warning[W003]: the parameter `v` never learns: its gradient is zero everywhere
 --> cell.seq:7:7
  |
7 | param v: a = 0
  |       ^
  = hint: all that depends on it passes `sign`; state another derivative: `gradient f(u) = …` \
after a `def`"""
    )


def rendered(text: str) -> str:
    with pytest.raises(SeqcError) as caught:
        parse_spec(Source(text, "cell.seq"))
    return str(caught.value)


def test_a_cycle_shows_its_path() -> None:
    text = "layer L\nstate h[t]: 1\na[t] = b[t]\nb[t] = 2 * h[t]\nh[t] = a[t]\noutput h[t]"
    assert (
        rendered(text)
        == """\
error[E044]: these equations need one another within one step: `a` → `b` → `h` → `a`
 --> cell.seq:3:8
  |
3 | a[t] = b[t]
  |        ^^^^ `a` needs `b`
4 | b[t] = 2 * h[t]
  |            ---- `b` needs `h`
5 | h[t] = a[t]
  |        ---- `h` needs `a`
  = hint: somewhere the past is meant: `h[t-1]`"""
    )


def test_an_unclosed_bracket_is_shown_where_it_opens() -> None:
    text = "layer L\nstate h[t]: 1\nh[t] = tanh(h[t-1]\noutput h[t]\n"
    assert (
        rendered(text)
        == """\
error[E004]: `(` is not closed
 --> cell.seq:3:12
  |
3 | h[t] = tanh(h[t-1]
  |            ^ opened here
4 | output h[t]
  | ------ a new statement begins here
  = hint: add the missing `)`"""
    )


def test_an_error_in_the_librarys_def_is_the_calls() -> None:
    text = "layer L\nsize a, b\nstate h[t]: a\nh[t] = norm(h[t-1], b)\noutput h[t]"
    found = rendered(text)
    assert found.startswith(
        """\
error[E049]: `sum` goes along `b`, which the value does not have
  --> cell.seq:4:8
   |
 4 | h[t] = norm(h[t-1], b)
   |        ^^^^^^^^^^^^^^^ in this call of `norm`
  ::: prelude.seq:"""
    )
    assert found.endswith("= hint: it has the axis `a`")


def test_a_diagnostic_goes_to_json() -> None:
    with pytest.raises(SeqcError) as caught:
        parse_spec(Source("layer L\noutput h[t]", "cell.seq"))
    (found,) = caught.value.diagnostics
    assert found.to_json()["line"] == 2
    assert render(found).startswith("error[E083]")
