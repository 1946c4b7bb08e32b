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


@pytest.mark.parametrize(
    ("host", "port", "said"),
    [("127.0.0.1", 70000, "port is 70000"), ("192.0.2.1", 0, r"cannot listen on host '192\.0\.2\.1'")],
)
def test_addresses_that_cannot_be_had(host: str, port: int, said: str) -> None:
    with pytest.raises(InputError, match=said):
        bind(host, port)
