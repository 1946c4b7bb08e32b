from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from iccld.app.adaptations import Adaptations
from iccld.app.answers import AppModel
from iccld.app.service import Service
from iccld.app.sessions import Sessions, Upload
from iccld.labels import CITYSCAPES19, LabelSpace
from iccld.models.prediction import Prediction


class PixelModel:
    """Reads its answer from the image: the class from red, the uncertainty from green."""

    def __init__(self, space: LabelSpace) -> None:
        self.label_space, self.calls = space, []
        self.gate = threading.Event()
        self.gate.set()

    def predict(self, images: np.ndarray, **settings: Any) -> Prediction:
        self.calls.append(settings)
        assert self.gate.wait(60)
        labels = np.minimum(images[..., 0], len(self.label_space) - 1)
        probabilities = np.eye(len(self.label_space), dtype=np.float32)[labels].transpose(2, 0, 1)
        uncertainty = images[..., 1].astype(np.float32) / 255
        found = Prediction(labels, np.ascontiguousarray(probabilities), np.zeros_like(uncertainty))
        vars(found)["uncertainty"] = uncertainty * np.float32(np.log(max(2, len(self.label_space))))
        return found


@pytest.fixture
def make_model() -> Callable[..., AppModel]:
    """Makes a model of the page that reads its answer from the image."""

    def make(space: LabelSpace = CITYSCAPES19, name: str = "mine") -> AppModel:
        return AppModel(name, PixelModel(space), space)

    return make


@pytest.fixture
def make_upload() -> Callable[..., Upload]:
    """An upload of a file where it lies."""
    return lambda path, name="": Upload(path, name or path.name)


class Client:
    """Speaks plain HTTP to a server of the tests."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers in lower case, and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
        finally:
            connection.close()

    def begin(self) -> str:
        """The path of a new session."""
        status, _, body = self.ask("POST", "/sessions")
        assert status == 201, body
        return f"/sessions/{json.loads(body)['session']}"

    def segment(self, session: str, **settings: Any) -> dict[str, Any]:
        """The last line that segmenting answers."""
        asked = {"steps": 1, "draws": 1, "opacity": 50, "layer": "classes", "hidden": []} | settings
        status, _, body = self.ask("POST", f"{session}/segment", json.dumps(asked).encode())
        assert status == 200, body
        return json.loads(body.splitlines()[-1])


class Served:
    """A running server with what lies behind it."""

    def __init__(self, client: Client, service: Service, root: Path) -> None:
        self.client, self.service, self.root = client, service, root


@pytest.fixture
def serve(make_model: Callable[..., AppModel], tmp_path: Path) -> Callable[..., Any]:
    """Serves the page of models that read their answers from the image, on a free port."""

    @contextmanager
    def run(
        models: list[AppModel] | None = None,
        *,
        allowed: tuple[str, ...] = (),
        adaptations: Adaptations | None = None,
        **limits: Any,
    ) -> Iterator[Served]:
        import uvicorn

        from iccld.app.guard import Guard
        from iccld.app.routes import Routes
        from iccld.app.server import SERVER_SETTINGS, bind

        root = tmp_path / "sessions"
        root.mkdir()
        sizes = {"max_upload_bytes": 2**20, "max_disk_bytes": 2**22} | limits
        service = Service(models or [make_model()], Sessions(root, **sizes))
        with bind("127.0.0.1", 0) as listener:
            port = listener.getsockname()[1]
            routes = Routes(service, adaptations)
            guard = Guard(routes.app, port=port, allowed=allowed)
            server = uvicorn.Server(uvicorn.Config(guard, **SERVER_SETTINGS))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
            thread.start()
            try:
                yield Served(Client(port), service, root)
            finally:
                server.should_exit = True
                thread.join(30)
                assert routes.is_idle_within(30)
            assert not thread.is_alive()

    return run
