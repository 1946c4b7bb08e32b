"""A headless Chromium for the tests of this folder."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

_SPEC = importlib.util.spec_from_file_location("find_chromium", Path(__file__).with_name("find_chromium.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
_FINDER = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_FINDER)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium of the system, driven by Playwright."""
    path = _FINDER.find_chromium()
    if path is None:
        pytest.fail("no Chromium; `make test-browser` says how to get one")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=list(_FINDER.FLAGS))
        yield running
        running.close()
