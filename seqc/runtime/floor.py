"""The oldest torch that kernels can be registered with."""

from __future__ import annotations

import re

#: The first release with the tag ``needs_exact_strides``, without which torch.compile may hand a
#: kernel tensors of other strides than it was traced with.
TORCH_FLOOR = (2, 8)


def require_torch(version: str) -> None:
    """Refuse a torch that is too old, by its version, e.g. ``2.8.0+cpu``.

    Raises:
        ImportError: it is; the text says what to install.
    """
    found = re.match(r"(\d+)\.(\d+)", version)
    if found and (int(found[1]), int(found[2])) < TORCH_FLOOR:
        floor = ".".join(map(str, TORCH_FLOOR))
        raise ImportError(
            f"seqc needs torch {floor} or later, and this is torch {version}: "
            f'pip install "torch>={floor}"'
        )
