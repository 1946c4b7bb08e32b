"""All that the server answers, over HTTP."""

from __future__ import annotations

import io
import json
import os
import socket
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from starlette.routing import Mount, Route

from iccld.app.adaptations import Adaptations
from iccld.app.answers import AppModel
from iccld.app.routes import Routes

Make = Callable[..., AppModel]
DRAWN = "opacity=50&layer=classes"


def _png(height: int = 20, width: int = 30) -> bytes:
    image = np.random.default_rng(0).integers(0, 19, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def _uploaded(client: Any, content: bytes | None = None, name: str = "street.png") -> str:
    session = client.begin()
    status, _, body = client.ask("POST", f"{session}/upload?name={name}", content or _png())
    assert status == 201, body
    return session


def _routes(routes: Routes) -> set[tuple[str, ...]]:
    found = routes.app.routes
    inner = [(mount.path, r) for mount in found if isinstance(mount, Mount) for r in mount.routes]
    all_routes = [*(("", r) for r in found if isinstance(r, Route)), *inner]
    return {(f"{start}{r.path}", *sorted(r.methods - {"HEAD"})) for start, r in all_routes}


def test_these_are_all_routes(serve: Callable[..., Any]) -> None:
    """Whoever adds one states here what it gives away; none takes the name of a file."""
    with serve() as served:
        routes = _routes(Routes(served.service))
    assert routes == {
        ("/", "GET"),
        ("/page.css", "GET"),
        ("/page.js", "GET"),
        ("/brush.js", "GET"),
        ("/adapt.js", "GET"),
        ("/sessions", "POST"),
        ("/sessions/{token}/upload", "POST"),
        ("/sessions/{token}/segment", "POST"),
        ("/sessions/{token}/picture/{index:int}", "GET"),
        ("/sessions/{token}/labels/{index:int}", "GET"),
        ("/sessions/{token}/masks", "GET"),
        ("/sessions/{token}/clip/{index:int}", "GET"),
        ("/sessions/{token}/compare/{secret}", "POST"),
        ("/sessions/{token}/alive", "POST"),
        ("/sessions/{token}/clear", "POST"),
        ("/sessions/{token}/end", "POST"),
    }


def test_adaptations_add_these_routes(serve: Callable[..., Any], tmp_path: Path) -> None:
    with serve() as served:
        adaptations = Adaptations(tmp_path, "streets", 400, 1, 1)
        added = _routes(Routes(served.service, adaptations)) - _routes(Routes(served.service))
    assert added == {
        ("/adaptations", "POST"),
        ("/adaptations/{secret}/", "GET"),
        ("/adaptations/{secret}/images", "POST"),
        ("/adaptations/{secret}/start", "POST"),
        ("/adaptations/{secret}/stop", "POST"),
        ("/adaptations/{secret}/remove", "POST"),
        ("/adaptations/{secret}/frame/{index:int}", "GET"),
        ("/adaptations/{secret}/onnx", "POST"),
        ("/adaptations/{secret}/model.onnx", "GET"),
        ("/adaptations/{secret}/model.zip", "GET"),
    }


def test_an_image_becomes_pictures_and_masks(serve: Callable[..., Any], make_model: Make) -> None:
    with serve([make_model(), make_model(name="<b>other</b>")]) as served:
        client = served.client
        session = _uploaded(client)
        result = client.segment(session, steps=3, draws=2)["result"]
        assert result["kind"] == "image"
        assert result["facts"][1].startswith("<b>other</b>: "), "text; the page sets it as text"
        assert result["agreement"] == "The two models agree on 100.0 % of the pixels."
        assert served.service.models[0].segmenter.calls[0]["steps"] == 3
        status, headers, picture = client.ask("GET", f"{session}/picture/1?{DRAWN}&hidden=road")
        assert (status, headers["content-type"]) == (200, "image/jpeg")
        assert Image.open(io.BytesIO(picture)).size == (30, 20)
        status, headers, labels = client.ask("GET", f"{session}/labels/1")
        assert (status, headers["content-type"]) == (200, "image/png")
        status, headers, masks = client.ask("GET", f"{session}/masks")
        assert status == 200
        assert "street_masks.zip" in headers["content-disposition"]
        with zipfile.ZipFile(io.BytesIO(masks)) as archive:
            kept = np.array(Image.open(archive.open("model2/labels/street.png")))
        np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(labels))), kept)
        assert client.ask("GET", f"{session}/labels/2")[0] == 400


def test_a_clip_becomes_a_clip(
    serve: Callable[..., Any], make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "a.mp4", [np.full((48, 64, 3), 10, np.uint8)] * 4)
    with serve() as served:
        client = served.client
        session = _uploaded(client, clip.read_bytes(), "a.mp4")
        status, _, body = client.ask(
            "POST",
            f"{session}/segment",
            json.dumps({"steps": 1, "draws": 1, "opacity": 50, "layer": "classes", "hidden": []}).encode(),
        )
        lines = [json.loads(line) for line in body.splitlines()]
        assert status == 200
        assert [line["done"] for line in lines[:-1]] == [1, 2, 3, 4]
        assert lines[-1]["result"]["kind"] == "video"
        status, headers, video = client.ask("GET", f"{session}/clip/0", headers={"Range": "bytes=0-9"})
        assert (status, len(video), headers["content-type"]) == (206, 10, "video/mp4")
        assert "a_overlay.mp4" in client.ask("GET", f"{session}/clip/0?download")[1]["content-disposition"]
        for index in ("1", "-1", "x"):
            assert client.ask("GET", f"{session}/clip/{index}")[0] == 404


def test_no_path_of_the_client_is_ever_read(serve: Callable[..., Any], tmp_path: Path) -> None:
    """File objects of other front ends, paths in names, in settings and in addresses."""
    secret = tmp_path / "secret.png"
    Image.new("RGB", (64, 64), (1, 2, 3)).save(secret)
    content, asked = secret.read_bytes(), []
    with serve() as served:
        client = served.client
        session = _uploaded(client)
        for path in (str(secret), "/dev/zero", "/etc/passwd", "../secret.png", "file:///etc/passwd"):
            data = {"path": path, "meta": {"_type": "gradio.FileData"}, "orig_name": "a.png"}
            body = json.dumps({"data": [data], "fn_index": 0, "session_hash": "x"}).encode()
            for route in ("/queue/join", "/gradio_api/queue/join", "/gradio_api/run/predict", "/api/predict"):
                asked.append(client.ask("POST", route, body))
            for settings in (data, [data], {"steps": data, "file": path, "path": path, "upload": path}):
                asked.append(client.ask("POST", f"{session}/segment", json.dumps(settings).encode()))
            for route in ("/file=", "/gradio_api/file=", "/proxy=", "/static/", "/assets/", "/file/", "/"):
                asked.append(client.ask("GET", f"{route}{path}"))
            for route in (f"{session}/clip/", f"{session}/picture/", f"{session}/"):
                asked.append(client.ask("GET", f"{route}{path.replace('/', '%2F')}"))
            name = path.replace("/", "%2F") + "/x.png"
            status, _, body = client.ask("POST", f"{session}/upload?name={name}", _png())
            assert (status, json.loads(body)["name"]) == (201, "x.png")
        for path in (
            "/openapi.json",
            "/docs",
            "/config",
            "/info",
            "/gradio_api/info",
            "/heartbeat/x",
            "/monitoring",
        ):
            asked.append(client.ask("GET", path))
        for path in (
            "/../../etc/passwd",
            "/..%2f..%2fetc%2fpasswd",
            "/page.js/../../server.py",
            "//etc/passwd",
        ):
            asked.append(client.ask("GET", path))
    for status, _, body in asked:
        assert status in (201, 400, 404, 405), body
        assert content not in body
        assert b"root:" not in body
        assert str(tmp_path).encode() not in body
    assert secret.read_bytes() == content


def test_answers_hold_no_path_of_the_server(serve: Callable[..., Any], tmp_path: Path) -> None:
    with serve() as served:
        client = served.client
        told = [client.ask("POST", "/sessions")]
        session = _uploaded(client, b"no image at all")
        stored = next(iter(served.root.glob("*/*")))
        told.append(client.ask("POST", f"{session}/upload?name=a.png", b"no image at all"))
        said = client.segment(session)
        assert said["error"].startswith("a.png: is a text")
        told.append(client.ask("GET", f"{session}/masks"))
        for _, headers, body in told:
            words = json.dumps(headers).encode() + body
            for secret in (str(tmp_path), stored.name, stored.parent.name, str(Path.home()) + "/"):
                assert secret.encode() not in words


def test_sessions_see_nothing_of_each_other(serve: Callable[..., Any]) -> None:
    with serve() as served:
        client = served.client
        first, second = _uploaded(client), client.begin()
        assert "result" in client.segment(first)
        assert client.segment(second)["error"] == "There is no file here; choose one again"
        for path in ("picture/0?" + DRAWN, "masks"):
            assert client.ask("GET", f"{second}/{path}")[0] == 400
            assert client.ask("GET", f"/sessions/guess/{path}")[0] == 404
        assert client.ask("POST", f"{first}/end")[0] == 204
        assert client.ask("GET", f"{first}/masks")[0] == 404
        assert len(list(served.root.iterdir())) == 1, "its files are gone"


def test_settings_that_the_page_does_not_send(serve: Callable[..., Any]) -> None:
    usual = {"steps": 1, "draws": 1, "opacity": 50, "layer": "classes", "hidden": []}
    wrong = {
        "steps": [0, 9, -1, 1.5, True, "1", None, [1], {}],
        "draws": [0, 17, 2**40],
        "opacity": [-1, 101, "50"],
        "layer": ["x", ["classes"], None],
        "hidden": ["road", ["x"] * 1000, [5], None, {}],
    }
    with serve() as served:
        session = _uploaded(served.client)
        for name, values in wrong.items():
            for value in values:
                body = json.dumps(usual | {name: value}).encode()
                status, _, answer = served.client.ask("POST", f"{session}/segment", body)
                assert status == 400, (name, value)
                assert name in json.loads(answer)["error"]
        assert "result" in served.client.segment(session, hidden=["road", "no such class"])


def test_bodies_that_are_no_settings(serve: Callable[..., Any]) -> None:
    with serve() as served:
        session = _uploaded(served.client)
        for body in (
            b"",
            b"\xff",
            b"[" * 60000,
            b"1" * 60000,
            b'{"steps": NaN}',
            b'{"steps": 1e400}',
            b"null",
        ):
            assert served.client.ask("POST", f"{session}/segment", body)[0] == 400
        too_long = served.client.ask("POST", f"{session}/segment", b" " * 70000)
        assert too_long[0] == 413
        for query in (
            "",
            "opacity=x",
            "opacity=5&layer=y",
            "opacity=%D9%A3&layer=classes",
            "opacity=" + "9" * 5000,
        ):
            assert served.client.ask("GET", f"{session}/picture/0?{query}")[0] == 400


def test_too_much(serve: Callable[..., Any]) -> None:
    with serve(max_upload_bytes=10_000, max_disk_bytes=15_000, max_sessions=2) as served:
        client = served.client
        first, second = client.begin(), client.begin()
        assert client.ask("POST", "/sessions")[0] == 503
        assert client.ask("POST", f"{first}/upload?name=a.png", bytes(10_001))[0] == 413
        assert client.ask("POST", f"{first}/upload?name=a.png", bytes(9_000))[0] == 201
        assert client.ask("POST", f"{second}/upload?name=a.png", bytes(9_000))[0] == 413, "no room"
        token, port = second.encode(), client.port
        chunk = b"2000\r\n" + bytes(0x2000) + b"\r\n"
        head = (
            b"POST %s/upload?name=a.png HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            connection.sendall(head % (token, port) + chunk * 2 + b"0\r\n\r\n")
            assert b" 413 " in connection.recv(65536), "a length that was not announced"
        assert sum(path.stat().st_size for path in served.root.glob("*/*")) == 9_000


def test_an_upload_that_stalls_is_refused(serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iccld.app.adaptation_routes._STALLED_SECONDS", 0.2)
    with serve() as served:
        token, port = served.client.begin().encode(), served.client.port
        head = b"POST %s/upload?name=a.png HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: 9000\r\n\r\n"
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            connection.sendall(head % (token, port) + bytes(100))
            assert b" 408 " in connection.recv(65536)
        assert not list(served.root.glob("*/*"))


def test_who_leaves_ends_the_work(serve: Callable[..., Any], make_model: Make) -> None:
    """A page that is closed in the middle leaves no answer and no file."""
    model = make_model()
    model.segmenter.gate.clear()
    with serve([model]) as served:
        client = served.client
        session = _uploaded(client)
        asked = b'{"steps": 1, "draws": 1, "opacity": 50, "layer": "classes", "hidden": []}'
        request = b"POST %s/segment HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: %d\r\n\r\n%s"
        with socket.create_connection(("127.0.0.1", client.port), timeout=30) as connection:
            connection.sendall(request % (session.encode(), client.port, len(asked), asked))
            _until(lambda: model.segmenter.calls)
            assert client.ask("POST", f"{session}/end")[0] == 204
        model.segmenter.gate.set()
        _until(lambda: not os.listdir(served.root))


def test_one_page_cannot_fill_the_line(serve: Callable[..., Any], make_model: Make) -> None:
    model = make_model()
    model.segmenter.gate.clear()
    asked = b'{"steps": 1, "draws": 1, "opacity": 50, "layer": "classes", "hidden": []}'
    with serve([model]) as served:
        client = served.client
        session = _uploaded(client)
        request = b"POST %s/segment HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: %d\r\n\r\n%s"
        connections = [socket.create_connection(("127.0.0.1", client.port), timeout=30) for _ in range(2)]
        for connection in connections:
            connection.sendall(request % (session.encode(), client.port, len(asked), asked))
        _until(lambda: served.service.sessions.find(session.split("/")[-1]).working == 2)
        assert client.ask("POST", f"{session}/segment", asked)[0] == 429
        model.segmenter.gate.set()
        for connection in connections:
            connection.close()


def test_every_answer_keeps_the_page_to_itself(serve: Callable[..., Any]) -> None:
    with serve() as served:
        for path in ("/", "/page.js", "/nowhere"):
            headers = served.client.ask("GET", path)[1]
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "http:" not in policy
            assert headers["x-frame-options"] == "DENY"
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"
            assert "server" not in headers
        page = b"".join(served.client.ask("GET", path)[2] for path in ("/", "/page.css", "/page.js"))
    for foreign in (b"http://", b"https://", b"//cdn", b"@import", b"innerHTML", b"eval("):
        assert foreign not in page


def _until(is_so: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)
