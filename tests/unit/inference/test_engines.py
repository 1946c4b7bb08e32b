from __future__ import annotations

import sys
from pathlib import Path

import pytest

from iccld.errors import InputError
from iccld.inference.engines import Work, predict_with_ray


def test_without_ray_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"--engine ray needs Ray.*\.\[ray\]"):
        predict_with_ray(Work("streets", None, Path("out"), ["labels"]), [], workers=1, gpus=0)
