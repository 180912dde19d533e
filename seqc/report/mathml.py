"""Names, brackets and operators as MathML Core, in pieces that a page may break lines between.

Only elements that browsers draw without help are used.  A formula is a run of *chunks*, each
well-formed by itself: MathML does not break lines, but a page may between two ``<math>``.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from math import inf, pi

from markupsafe import Markup

#: How tightly a term binds: what stands around it needs brackets where it binds less.
COMPARES, OPEN, ADDS, NEGATED, TIMES, FRACTION, POWER, ATOM = range(8)
#: Names that are shown as the letters they spell.
GREEK = dict(
    zip(
        "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho "
        "sigma tau upsilon phi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi "
        "Omega".split(),
        "αβγδεζηθικλμνξοπρστυφχψωΓΔΘΛΞΠΣΦΨΩ",
        strict=True,
    )
)
ELLIPSIS = "<mo>…</mo>"


@dataclass(frozen=True)
class Piece:
    """A printed term: its chunks, how tightly it binds, and whether it is a number or the past."""

    chunks: tuple[str, ...]
    binds: int = ATOM
    kind: str = ""

    @property
    def markup(self) -> str:
        """The chunks in one."""
        return "".join(self.chunks)


def atom(markup: str, kind: str = "") -> Piece:
    """A term that never needs brackets."""
    return Piece((markup,), ATOM, kind)


def row(*parts: str) -> str:
    """Parts side by side, as one element where there are several."""
    return parts[0] if len(parts) == 1 else f"<mrow>{''.join(parts)}</mrow>"


def group(markup: str) -> str:
    """Markup of any number of elements as one, which a fraction or an exponent needs."""
    return f"<mrow>{markup}</mrow>"


def operator(sign: str, form: str = "infix") -> str:
    """A sign with the spacing of its place, which a line break must not change."""
    return f'<mo form="{form}">{escape(sign)}</mo>'


def brackets(inner: str, left: str = "(", right: str = ")") -> str:
    """An inner row in brackets that grow with it."""
    return (
        f'<mrow><mo form="prefix" stretchy="true">{left}</mo>{inner}'
        f'<mo form="postfix" stretchy="true">{right}</mo></mrow>'
    )


def wrapped(piece: Piece, binds: int) -> Piece:
    """The piece, in brackets where it binds less than its place needs."""
    return piece if piece.binds >= binds else atom(brackets(piece.markup))


def word(name: str) -> str:
    """A name of the spec's: a letter, a Greek letter, or an italic word."""
    shown = GREEK.get(name, name)
    # A single letter is italic by itself; a longer <mi> is upright, as functions are.
    return f"<mi>{escape(shown)}</mi>" if len(shown) == 1 else f'<mi class="w">{escape(name)}</mi>'


def upright(name: str) -> str:
    """The name of a function, or a word of explanation."""
    inner = escape(name)
    # A one-letter <mi> would be italic.
    return f"<mi>{inner}</mi>" if len(name) > 1 else f'<mi mathvariant="normal">{inner}</mi>'


def number(value: float) -> Piece:
    """A number; an infinity as its sign."""
    negative = value < 0 or str(value).startswith("-")
    size = -value if negative else value
    text = f"{size:g}"
    mantissa, _, exponent = text.partition("e")
    if size in (pi, inf):
        shown = "<mi>π</mi>" if size == pi else "<mi>∞</mi>"
    elif exponent:
        power = f"<msup><mn>10</mn><mn>{int(exponent)}</mn></msup>".replace("<mn>-", "<mn>−")
        times = operator("×")
        shown = power if mantissa == "1" else row(f"<mn>{mantissa}</mn>", times, power)
    else:
        shown = f"<mn>{text}</mn>"
    if negative:
        return Piece((operator("−", "prefix") + shown,), NEGATED, "number")
    return atom(shown, "number")


def lagged(lag: int | str) -> str:
    """The time index t, or t − k."""
    if lag == 0:
        return "<mi>t</mi>"
    shown = f"<mn>{lag}</mn>" if isinstance(lag, int) else word(str(lag))
    return row("<mi>t</mi>", operator("−"), shown)


def value(name: str, lag: int | str | None = 0, accent: str = "", before: str = "") -> str:
    """A value at t − lag; constant in time for None.

    ``accent`` is drawn over it (a hat: the pre-activation), ``before`` in front (a ∂).
    What follows a dot in the name becomes a superscript.
    """
    base, _, rest = name.partition(".")
    core = word(base)
    if accent:
        core = f'<mover accent="true">{core}<mo stretchy="false">{accent}</mo></mover>'
    if before:
        core = row(before, core)
    above = f"<mtext>{escape(rest)}</mtext>"
    if lag is None:
        return f"<msup>{core}{above}</msup>" if rest else core
    below = lagged(lag)
    if rest:
        return f"<msubsup>{core}{below}{above}</msubsup>"
    return f"<msub>{core}{below}</msub>"


def indexed(letter: str, index: str, lag: int | str | None = 0) -> str:
    """A derived value, letter_{index, t}."""
    parts = [f"<mtext>{escape(index)}</mtext>"] if index else []
    if lag is not None:
        parts += [*([operator(",")] if parts else []), lagged(lag)]
    return f"<msub><mi>{letter}</mi>{row(*parts)}</msub>" if parts else f"<mi>{letter}</mi>"


def apply(function: str, *args: str) -> str:
    """A function, given as markup, of its arguments."""
    inner = operator(",").join(args)
    return row(function, "<mo>\u2061</mo>", brackets(inner))


def total(below: str) -> str:
    """A sigma with what it runs over below it."""
    sign = '<mo form="prefix" largeop="true" movablelimits="false">∑</mo>'
    return f"<munder>{sign}{below}</munder>"


def cases(rows: list[tuple[str, str]]) -> str:
    """Values, each with its condition; the last one's is empty."""
    lines = "".join(
        f"<mtr><mtd>{value}</mtd><mtd>"
        + (f"<mtext>if\u00a0</mtext>{condition}" if condition else "<mtext>otherwise</mtext>")
        + "</mtd></mtr>"
        for value, condition in rows
    )
    brace = '<mo form="prefix" stretchy="true" fence="true">{</mo>'
    return f'<mrow>{brace}<mtable class="cases">{lines}</mtable></mrow>'


def math(*chunks: str) -> Markup:
    """Chunks as ``<math>`` elements that a line may break between; markup, not to be escaped."""
    return Markup("<wbr/>".join(f'<math displaystyle="true">{chunk}</math>' for chunk in chunks))
