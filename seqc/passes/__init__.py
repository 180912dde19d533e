"""The compiler's passes and their driver: spec in; report, source text or class out."""

from seqc.passes.driver import build, check, compile_spec, emit

__all__ = ["build", "check", "compile_spec", "emit"]
