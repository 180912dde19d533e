"""Text to syntax tree.  Lark does the reading; what it finds becomes the dataclasses of `syntax`.

Lark is imported and its tables are built at the first use: both take longer than
everything else here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from seqc.diagnostics import SeqcError, Source, Span
from seqc.frontend.messages.limits import MAX_BUNDLE
from seqc.frontend.messages.problems import Problems
from seqc.frontend.text import syntax as s
from seqc.frontend.text.mistakes import explain
from seqc.frontend.text.scan import scan

if TYPE_CHECKING:
    from lark import Lark, Token, Tree


def parse(source: Source, problems: Problems) -> tuple[s.Statement, ...]:
    """The statements of a file, in order.

    The first mistake of spelling raises :class:`SeqcError` (what follows it would be
    guesswork); numbers too large to hold are noted in ``problems``.
    """
    from lark.exceptions import UnexpectedInput

    scan(source)
    # A byte order mark is no part of the text, but columns count from where it stands.
    text = " " + source.text[1:] if source.text.startswith("\ufeff") else source.text
    try:
        tree = parser().parse(text + "\n")
    except UnexpectedInput as error:
        # Lark's own exception holds its whole state: nobody needs it in a traceback.
        raise SeqcError((explain(error, source),)) from None
    return _Reader(source, problems).read(tree)


@lru_cache(maxsize=1)
def parser() -> Lark:
    """Lark's parser of the language, built at the first call."""
    from lark import Lark

    grammar = resources.files("seqc.grammar").joinpath("seq.lark").read_text(encoding="utf-8")
    newlines: Any = _Newlines()
    return Lark(grammar, parser="lalr", propagate_positions=True, postlex=newlines)


class _Newlines:
    """Drops the newlines inside brackets, empty lines, and those before the first statement."""

    always_accept = ("_NL",)

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        depth, fresh = 0, True
        for token in stream:
            if token.type == "_NL":
                if depth or fresh:
                    continue
                fresh = True
            else:
                depth += (token.type in ("LPAR", "LSQB")) - (token.type in ("RPAR", "RSQB"))
                fresh = False
            yield token


#: How many parts a bundle may have, as it is written.
_COUNTS = frozenset(map(str, range(2, MAX_BUNDLE + 1)))

#: What a comparison is, seen from its other side.
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


class _Reader:
    """Turns Lark's tree into the dataclasses, from the leaves up and without recursion."""

    def __init__(self, source: Source, problems: Problems) -> None:
        self.source = source
        self.problems = problems

    def read(self, root: Tree[Token]) -> tuple[s.Statement, ...]:
        methods: dict[str, Callable[[list[Any], Span], Any]] = {}
        todo: list[tuple[Any, bool]] = [(c, False) for c in reversed(root.children)]
        done: list[Any] = []
        while todo:
            item, ready = todo.pop()
            if not hasattr(item, "children"):
                done.append(item)
            elif not ready:
                todo.append((item, True))
                todo.extend((c, False) for c in reversed(item.children))
            else:
                count = len(item.children)
                parts = done[len(done) - count :]
                del done[len(done) - count :]
                method = methods.get(item.data)
                if method is None:
                    method = methods[item.data] = getattr(self, f"_{item.data}")
                meta = item.meta
                span = (
                    Span(self.source, meta.line, meta.column, meta.end_line, meta.end_column)
                    if not meta.empty
                    else Span(self.source, 1, 1, 1, 1)
                )
                done.append(method(parts, span))
        return tuple(done)

    def _word(self, token: Token) -> s.Name:
        line, column = token.line or 1, token.column or 1
        return s.Name(str(token), Span(self.source, line, column, line, column + len(token)))

    def _words(self, tokens: list[Any]) -> tuple[s.Name, ...]:
        return tuple(self._word(t) for t in tokens if t is not None)

    # ---- expressions

    def _number(self, parts: list[Any], span: Span) -> s.Number:
        text = str(parts[0])
        value = float(text)
        if math.isinf(value):
            self.problems.error(
                "E008",
                "this number is too large to be held",
                span,
                hint="write `inf` if you mean it",
            )
        # int() refuses more than 4300 digits; nothing that large is held exactly anyway.
        whole = int(text) if text.isdigit() and len(text) <= 20 else None
        return s.Number(value, whole, span)

    def _name(self, parts: list[Any], span: Span) -> s.Name:
        return s.Name(str(parts[0]), span)

    def _group(self, parts: list[Any], span: Span) -> Any:
        # The place of `(a + b)` includes its brackets.
        inner = parts[0]
        fields = {name: getattr(inner, name) for name in inner.__slots__}
        return type(inner)(**{**fields, "span": span})

    def _tuple(self, parts: list[Any], span: Span) -> s.Tuple:
        return s.Tuple(tuple(parts), span)

    def _indexed(self, parts: list[Any], span: Span) -> s.Indexed:
        return s.Indexed(parts[0], parts[1], span)

    def _arguments(self, parts: list[Any], span: Span) -> tuple[s.Argument, ...]:
        return tuple(p for p in parts if p is not None)

    def _argument(self, parts: list[Any], span: Span) -> s.Argument:
        keyword = None if parts[0] is None else self._word(parts[0])
        return s.Argument(keyword, parts[1], span)

    def _call(self, parts: list[Any], span: Span) -> s.Call:
        return s.Call(parts[0], parts[1], span)

    def _chain(self, parts: list[Any], span: Span) -> s.Chain:
        pairs = zip(parts[1::2], parts[2::2], strict=True)
        return s.Chain(parts[0], tuple((str(op), e) for op, e in pairs), span)

    _sum = _product = _chain

    def _expr(self, parts: list[Any], span: Span) -> s.Comparison:
        pairs = zip(parts[1::2], parts[2::2], strict=True)
        return s.Comparison(parts[0], tuple((str(op), e) for op, e in pairs), span)

    def _signed(self, parts: list[Any], span: Span) -> s.Signed:
        *signs, value = parts
        return s.Signed(sum(sign == "-" for sign in signs) % 2 == 1, value, span)

    def _power(self, parts: list[Any], span: Span) -> s.Power:
        found: list[tuple[bool, s.Expr]] = []
        negative = False
        for part in parts:
            if hasattr(part, "type"):  # a sign; it binds more loosely than the powers after it
                negative ^= part == "-"
            else:
                found.append((negative, part))
                negative = False
        return s.Power(tuple(found), span)

    # ---- parts of statements

    def _axes(self, parts: list[Any], span: Span) -> s.Axes:
        qualifier = None if parts[0] is None else self._word(parts[0])
        names = [self._word(t) for t in parts[1:] if t.type == "NAME"]
        first, count = parts[1], None
        if first.type != "NAME" and names and str(first) in _COUNTS:
            count = int(first)
        for token in parts[1:] if count is None else parts[2:]:
            if token.type != "NAME" and (str(token) != "1" or len(parts) != 2):
                name = self._word(token)
                self.problems.error(
                    "E021",
                    f"`{name.text}` is not an axis",
                    name.span,
                    hint="an axis is the name of a size; `: 1` says that there is none; "
                    f"`(3, hidden)` a bundle, of {MAX_BUNDLE} at most",
                )
        return s.Axes(qualifier, tuple(names), span, count)

    def _single(self, axes: Any) -> Any:
        """The axes of what can't be a bundle."""
        if axes is not None and axes.count is not None:
            self.problems.error(
                "E053",
                "only an equation can be a bundle",
                axes.span,
                hint=f"declare a size in the place of the {axes.count}, or each by itself",
            )
        return axes

    def _names(self, parts: list[Any], span: Span) -> tuple[s.Name, ...]:
        return self._words(parts)

    def _target(self, parts: list[Any], span: Span) -> s.Target:
        return s.Target(self._word(parts[0]), parts[1], span)

    def _declared(self, parts: list[Any], span: Span) -> s.Declared:
        return s.Declared(parts[0], self._single(parts[1]), parts[2], span)

    def _setting(self, parts: list[Any], span: Span) -> s.Setting:
        return s.Setting(self._word(parts[0]), parts[1], span)

    def _bounded(self, parts: list[Any], span: Span) -> s.Setting:
        """A hyper: ``name``, ``name > bound``, ``bound < name <= bound``, with its value."""
        head, value = parts
        if isinstance(head, s.Name):
            return s.Setting(head, value, span)
        terms: list[s.Expr] = []
        signs: list[str] = []
        if isinstance(head, s.Comparison):
            terms = [head.first, *(e for _, e in head.rest)]
            signs = [sign for sign, _ in head.rest]
        # Of two terms the first is the hyper, unless it is no name; of three the one between.
        place = 0 if len(terms) == 2 and isinstance(terms[0], s.Name) else 1
        name = terms[place] if place < len(terms) <= 3 else None
        if not isinstance(name, s.Name) or any(sign not in _MIRRORED for sign in signs):
            self.problems.error(
                "E094",
                "a hyper-parameter is a name, which may be compared with numbers",
                head.span,
                hint="write `hyper p = 0.1`, `hyper p > 0 = 0.1` or `hyper 0 < p <= 1 = 0.1`",
            )
            return s.Setting(s.Name("", head.span), value, span)
        domain = tuple(
            (sign, terms[i + 1]) if i == place else (_MIRRORED[sign], terms[i])
            for i, sign in enumerate(signs)
        )
        return s.Setting(name, value, span, domain)

    def _part(self, parts: list[Any], span: Span) -> s.Part:
        name, axes, sign, bound = parts
        axes = self._single(axes)
        domain = None if sign is None else (str(sign), bound)
        return s.Part(self._word(name), axes, domain, span)

    # ---- statements

    def _layer(self, parts: list[Any], span: Span) -> s.Layer:
        return s.Layer(self._word(parts[0]), span)

    def _size(self, parts: list[Any], span: Span) -> s.Settings:
        return s.Settings("size", tuple(parts), span)

    def _hyper(self, parts: list[Any], span: Span) -> s.Settings:
        return s.Settings("hyper", tuple(parts), span)

    def _input(self, parts: list[Any], span: Span) -> s.Declaration:
        return s.Declaration("input", tuple(parts), span)

    def _state(self, parts: list[Any], span: Span) -> s.Declaration:
        return s.Declaration("state", tuple(parts), span)

    def _param(self, parts: list[Any], span: Span) -> s.Declaration:
        return s.Declaration("param", tuple(parts), span)

    def _equation(self, parts: list[Any], span: Span) -> s.EquationStatement:
        return s.EquationStatement(parts[0], parts[1], parts[2], span)

    def _map(self, parts: list[Any], span: Span) -> s.MapStatement:
        name, parameters, axes, value = parts
        axes = replace(axes, count=None) if self._single(axes).count else axes
        return s.MapStatement(self._word(name), parameters, axes, value, span)

    def _choice(self, parts: list[Any], span: Span) -> s.Choice:
        name, *options = self._words(parts)
        return s.Choice(name, tuple(options), span)

    def _output(self, parts: list[Any], span: Span) -> s.Output:
        return s.Output(tuple(parts), span)

    def _define(self, parts: list[Any], span: Span) -> s.Define:
        return s.Define(self._word(parts[0]), parts[1], parts[2], span)

    def _space(self, parts: list[Any], span: Span) -> s.Later:
        return s.Later("space", self._words(parts), span)

    def _solve(self, parts: list[Any], span: Span) -> s.SolveStatement:
        first, second, arguments = parts
        second = None if second is None else self._word(second)
        return s.SolveStatement(self._word(first), second, tuple(arguments or ()), span)

    def _gradient(self, parts: list[Any], span: Span) -> s.FeedbackStatement | s.Gradient:
        word, second, arguments, body = parts
        if body is None:  # `gradient truncated(20)`: how, not what
            way = None if second is None else self._word(second)
            return s.FeedbackStatement(self._word(word), way, tuple(arguments or ()), span)
        name = self._word(word)
        if second is not None:
            self.problems.error(
                "E006",
                f"two names stand before the parameters of a gradient: `{name.text} {second}`",
                self._word(second).span,
                hint=f"write `gradient {name.text}(u) = …`, as the def is written",
            )
        parameters: list[s.Name] = []
        for argument in arguments or ():
            if isinstance(argument.value, s.Name) and argument.keyword is None:
                parameters.append(argument.value)
            else:
                parameters.append(s.Name("", argument.span))
                self.problems.error(
                    "E006",
                    "a parameter is a name",
                    argument.span,
                    hint=f"write `gradient {name.text}(u) = …`, as the def is written",
                )
        return s.Gradient(name, tuple(parameters), body, span)

    def _penalty(self, parts: list[Any], span: Span) -> s.Later:
        return s.Later("penalty", (), span)

    def _algebra(self, parts: list[Any], span: Span) -> s.AlgebraHead:
        return s.AlgebraHead(self._word(parts[0]), tuple(parts[1:]), span)

    def _identity(self, parts: list[Any], span: Span) -> s.AlgebraClause:
        return s.AlgebraClause("identity", (), parts[0], span)

    def _projective(self, parts: list[Any], span: Span) -> s.AlgebraClause:
        return s.AlgebraClause("projective", (), parts[0], span)

    def _compose(self, parts: list[Any], span: Span) -> s.AlgebraClause:
        return s.AlgebraClause("compose", (parts[0], parts[1]), parts[2], span)

    def _apply(self, parts: list[Any], span: Span) -> s.AlgebraClause:
        return s.AlgebraClause("apply", (parts[0],), parts[2], span, self._single(parts[1]))
