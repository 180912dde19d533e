"""What a kernel's build parses besides the kernel: as little as can be."""

from __future__ import annotations

import re

from seqc.codegen.sources import entries, headers
from seqc.runtime.emulator import emulator_header

# Each takes some 10 ms; <algorithm>, <cmath>, <memory>, <vector> or <string> takes 60 to 120,
# <immintrin.h> and <random> 200, in every build of every kernel.
LIGHT = {"cstdint", "cstdlib", "limits", "utility"}


def included(text: str) -> set[str]:
    return set(re.findall(r"^\s*#\s*include\s*[<\"](.*)[>\"]", text, re.MULTILINE))


def test_kernels_include_light_headers_alone() -> None:
    assert included(headers("CPP") + entries("CPP")) == LIGHT


def test_cuda_kernels_include_nothing() -> None:
    assert included(headers("CUDA") + entries("CUDA")) == set()
    assert included(emulator_header()) <= LIGHT
