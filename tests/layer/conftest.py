"""What the tests of built layers share: every backend, and none of torch.compile's leftovers."""

from __future__ import annotations

import pytest

from tests.layer.support import BACKENDS


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Each backend that this machine can run."""
    return str(request.param)


@pytest.fixture
def dynamo():
    """torch._dynamo, with nothing compiled before and nothing left behind."""
    import torch._dynamo

    torch._dynamo.reset()
    yield torch._dynamo
    torch._dynamo.reset()
