"""The jinja2 environments that all templates are rendered in."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined


@cache
def environment() -> Environment:
    """Templates of ``seqc.templates``; an undefined name is an error."""
    return _made(escape=False)


@cache
def page_environment() -> Environment:
    """The same for HTML: whatever is not markup already is escaped."""
    return _made(escape=True)


def _made(*, escape: bool) -> Environment:
    return Environment(
        loader=PackageLoader("seqc.templates", ""),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=escape,
    )
