"""The version, in the one place that code reads it from (pyproject.toml has it too)."""

VERSION = "0.1.0"
