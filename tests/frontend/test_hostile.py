"""Files that mean harm, or are no specs at all: a clear error, soon, and nothing else."""

from __future__ import annotations

import sys
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from seqc.diagnostics import SeqcError, Source
from seqc.frontend import parse_algebras, parse_spec, prelude
from seqc.frontend.messages import limits

#: Generous: alone on a machine each takes well under a second.
SECONDS = 8.0
HEAD = "layer L\nsize a\nstate h[t]: a\n"
END = "\noutput h[t]\n"


def equations(count: int, form: str) -> str:
    return "layer L\n" + "".join(
        form.format(i=i, next=(i + 1) % count, pair=i ^ 1) for i in range(count)
    )


REFUSED = {
    "empty": ("", "E080"),
    "blank lines": ("\n" * 500_000, "E080"),
    "comments": ("#\n" * 300_000, "E080"),
    "NUL": ("layer L\0", "E001"),
    "bytes": (bytes(range(256)).decode("latin1") * 1000, "E001"),
    "lone surrogates": ("layer \ud800", "E001"),
    "old Mac newlines": ("layer L\rsize a\r", "E001"),
    "no language": ("\u1234\U0001f600" * 1000, "E007"),
    "10 MB": ("h[t] = 1\n" * 1_200_000, "E002"),
    "one line of 10 MB": ("a" * 10_000_000, "E002"),
    "a long line": ("h[t] = " + "a+" * 400_000 + "1", "E002"),
    "100,000 equations": ("".join(f"a{i}[t]=1\n" for i in range(77_000)), "E002"),
    "10,000 brackets": ("h[t] = " + "(" * 10_000 + "1" + ")" * 10_000, "E003"),
    "brackets alone": ("[" * 900_000, "E003"),
    "closing brackets": (")" * 900_000, "E005"),
    "a long name": (HEAD + "q" * 900_000 + "[t] = h[t-1]\nh[t]=1" + END, "E023"),
    "a long number": (HEAD + "h[t] = h[t-1] * " + "9" * 900_000 + END, "E008"),
    "exponential defs": (
        "def f0(u) = u + u\n"
        + "".join(f"def f{i}(u) = f{i - 1}(u) * f{i - 1}(u)\n" for i in range(1, 60))
        + f"{HEAD}h[t] = f59(h[t-1]){END}",
        "E009",
    ),
    "a long cycle": (equations(2_000, "a{i}[t]=a{next}[t]\n") + "output a0[t]", "E044"),
    "many cycles": (equations(2_000, "a{i}[t]=a{pair}[t]\n") + "output a0[t]", "E044"),
    "cycles in time": (equations(1_800, "a{i}[t]=a{next}[t-1]\n") + "output a0[t]", "E045"),
    "unknown names": (equations(2_000, "a{i}[t]=b{next}[t]\n") + "output a0[t]", "E020"),
    "a cycle of defs": (
        "".join(f"def f{i}(u)=f{(i + 1) % 1_500}(u)\n" for i in range(1_500))
        + f"{HEAD}h[t]=h[t-1]{END}",
        "E025",
    ),
    "a large bundle": (
        HEAD + f"g[t]: (64, a) = {'h[t-1] + ' * 3_000}1\nh[t] = g[t][0]" + END,
        "E009",
    ),
    "many bundles": (
        HEAD
        + "".join(f"a{i}[t]: (64, a) = h[t-1] * h[t-1]\n" for i in range(1_000))
        + "h[t] = 1"
        + END,
        "E009",
    ),
    "a long formula": (
        HEAD + f"param q: a = {'a + ' * 8_000}1\nh[t] = q" + END,
        "E088",
    ),
    "many sizes": ("layer L\nsize " + ",".join(f"a{i}" for i in range(10_000)), "E082"),
    "a chain of calls": (HEAD + "h[t] = f" + "(1)" * 8_000 + END, "E024"),
    "a chain of indices": (HEAD + "h[t] = h" + "[t]" * 8_000 + END, "E044"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_within_seconds(name: str) -> None:
    text, code = REFUSED[name]
    start = time.perf_counter()
    with pytest.raises(SeqcError) as caught:
        parse_spec(Source(text, "bad.seq"))
    shown = str(caught.value)
    assert time.perf_counter() - start < SECONDS
    assert code in {d.code for d in caught.value.diagnostics}
    assert len(shown) < 200_000
    shown.encode("utf-8")  # a lone surrogate would break the terminal


ACCEPTED = {
    "brackets": "(" * 190 + "1" + ")" * 190,
    "calls": "-tanh(1 + 2 * " * 190 + "1" + ")" * 190,
    "powers in brackets": "-(2 ^ -" * 190 + "1" + ")" * 190,
    "a sum": "h[t-1]" + " + h[t-1]" * 3_500,
    "signs": "-" * 24_000 + "1",
    "powers": "2 ^ " * 12_000 + "1",
    "arguments": "linear(" + ", ".join(["h[t-1]"] * 3_000) + ")",
    "digits": "0." + "9" * 900_000,
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_is_large_but_legal_is_read_without_recursion(name: str) -> None:
    limit = sys.getrecursionlimit()
    start = time.perf_counter()
    (layer,), _ = parse_spec(Source(f"{HEAD}h[t] = {ACCEPTED[name]}{END}"))
    assert time.perf_counter() - start < SECONDS
    assert list(layer.problems()) == []
    assert sys.getrecursionlimit() == limit


def test_numbers_are_folded_without_recursion() -> None:
    text = f"layer L\nhyper p = {'(1 + -2 * ' * 190}1{')' * 190}\nstate h[t]: 1\nh[t] = p{END}"
    (layer,), _ = parse_spec(Source(text))
    assert layer.hypers[0].default != 0


def test_defs_may_call_one_another_deeply() -> None:
    text = "def f0(u) = u\n" + "".join(f"def f{i}(u) = -f{i - 1}(u)\n" for i in range(1, 1_500))
    (layer,), _ = parse_spec(Source(f"{text}{HEAD}h[t] = f1499(h[t-1]){END}"))
    assert list(layer.problems()) == []


def test_errors_are_counted_beyond_the_limit() -> None:
    text = equations(1_000, "a{i}[t]=b{i}\n") + "output a0[t]"
    with pytest.raises(SeqcError) as caught:
        parse_spec(Source(text))
    assert len(caught.value.diagnostics) == limits.MAX_PROBLEMS + 1
    last = caught.value.diagnostics[-1]
    assert (last.code, last.message) == ("E099", "900 more errors are not shown")


SPEC = prelude().text + (
    "\nlayer L # one\nsize input, hidden, width = 2, other = hidden\nhyper p = 0.1\n"
    "input x[t]: input\nstate h[t]: hidden = learned\nparam w: (hidden, other) = normal(0, 1e-2)\n"
    "z[t]: hidden = sigmoid(conv(x[t-1], width, causal = false) + sum(w * h[t-1], other))\n"
    "h[t] = where(z[t] >= 0, drop(softmax(z[t], hidden), p), -h[t-width] ^ 2)\noutput h[t]\n"
    "choice act = tanh, relu\nmap f(u): hidden = linear(u, bias = -log(hidden))\n"
    "g[t]: (2, hidden) = act(f(h[t-1-width])) + linear(x[t], weight = orthogonal)\n"
    "y[t] = g[t][0] * g[t-1][1]\noutput y[t]\n"
)
WORDS = [*SPEC.split(), "(", ")", "[", "]", "=", ",", ":", "\n", "t", "[t]", "complex", "space"]


def survives(text: str) -> None:
    for read in (parse_spec, parse_algebras):
        shown = "refused"
        try:
            found = read(Source(text, "fuzz.seq"))
            if read is parse_spec:
                assert not [p for layer in found[0] for p in layer.problems()]
        except SeqcError as error:
            shown = str(error)
        assert shown.encode("utf-8")


@given(st.binary(max_size=300))
def test_random_bytes(data: bytes) -> None:
    survives(data.decode("latin1"))
    survives(data.decode("utf-8", errors="surrogateescape"))


@given(st.text(max_size=200))
@example("\x85\u2028")
def test_random_text(text: str) -> None:
    survives(text)


@given(st.lists(st.sampled_from(WORDS), max_size=40))
def test_random_words(words: list[str]) -> None:
    survives(" ".join(words))


LAYER = SPEC[SPEC.index("layer L") :]


@given(
    st.lists(
        st.tuples(
            st.integers(0, len(LAYER)),
            st.integers(0, 12),
            st.one_of(st.sampled_from(WORDS), st.text(max_size=3)),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_mutated_specs(edits: list[tuple[int, int, str]]) -> None:
    text = LAYER
    for position, length, new in edits:
        text = text[:position] + new + text[position + length :]
    survives(text)


@given(st.permutations(LAYER.splitlines()))
def test_shuffled_lines(lines: list[str]) -> None:
    survives("\n".join(lines))
