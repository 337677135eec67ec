from __future__ import annotations

from collections.abc import Iterator

import pytest

from aikeys.transport import KeepAliveTransport


@pytest.fixture
def transport() -> Iterator[KeepAliveTransport]:
    transport = KeepAliveTransport()
    yield transport
    transport.close()
