from __future__ import annotations

import pytest

from iccld.app.server import bind
from iccld.errors import InputError


def test_free_port_is_taken_and_then_in_use() -> None:
    with bind("127.0.0.1", 0) as listener:
        host, port = listener.getsockname()
        assert host == "127.0.0.1"
        with pytest.raises(InputError, match=rf"port {port} is in use; .*--port"):
            bind("127.0.0.1", port)
    bind("127.0.0.1", port).close()


def test_addresses_that_cannot_be_had() -> None:
    with pytest.raises(InputError, match=r"cannot listen on host '192\.0\.2\.1', port 0"):
        bind("192.0.2.1", 0)
