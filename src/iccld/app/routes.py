"""All that can be asked of the server. No address, header or body names a file of this machine.

| method | path | answer |
|---|---|---|
| GET | `/`, `/page.css`, `/page.js` | the page: three texts of the package |
| POST | `/sessions` | a new session: its token, and what the page shows before the first upload |
| POST | `/sessions/TOKEN/upload?name=NAME` | takes the body as the session's file |
| POST | `/sessions/TOKEN/segment` | segments it; lines of JSON: progress, then result or error |
| GET | `/sessions/TOKEN/picture/INDEX` | JPEG of one model's answer, drawn as the query says |
| GET | `/sessions/TOKEN/masks` | zip of the masks |
| GET | `/sessions/TOKEN/clip/INDEX` | MP4 of one model's overlay |
| POST | `/sessions/TOKEN/alive`, `/clear`, `/end` | keeps the session, empties it, removes it |
"""

from __future__ import annotations

import asyncio
import functools
import json
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from iccld.app.service import Service
from iccld.app.sessions import FullError, Session
from iccld.app.worker import Worker
from iccld.errors import InputError, RunFailedError

_PAGE = (
    ("/", "page.html", "text/html"),
    ("/page.css", "page.css", "text/css"),
    ("/page.js", "page.js", "text/javascript"),
)
_LONGEST_SETTINGS = 64 * 1024  # bytes
_MOST_WAITING = 2  # predictions of one page: one that runs, and the one that is to replace it
_STALLED_SECONDS = 60
_SWEEP_SECONDS = 15

Handler = Callable[[Request, Session], Awaitable[Response]]


class Routes:
    """The application.

    Args:
        service: does the work.

    Attributes:
        app: an ASGI application; ``iccld.app.guard.Guard`` goes around it.
        ending: set when the server ends, so that no video is segmented on.
        workers: one prediction at a time, whoever asks, and two drawings beside it.
    """

    def __init__(self, service: Service) -> None:
        self._service, self._sessions = service, service.sessions
        self.ending = threading.Event()
        self._predicting, self._drawing = Worker("predict", 1), Worker("draw", 2)
        self.workers = (self._predicting, self._drawing)
        inner: list[tuple[str, str, Handler]] = [
            ("POST", "upload", self._upload),
            ("POST", "segment", self._segment),
            ("GET", "picture/{index:int}", self._picture),
            ("GET", "masks", self._masks),
            ("GET", "clip/{index:int}", self._clip),
            ("POST", "alive", self._alive),
            ("POST", "clear", self._clear),
            ("POST", "end", self._end),
        ]
        routes = [Route(path, _static(name, kind), methods=["GET"]) for path, name, kind in _PAGE]
        routes.append(Route("/sessions", self._begin, methods=["POST"]))
        for method, path, handler in inner:
            routes.append(Route(f"/sessions/{{token}}/{path}", self._within(handler), methods=[method]))
        self.app = Starlette(routes=routes, lifespan=self._lifespan)
        self.app.router.redirect_slashes = False

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        async def sweep() -> None:
            while True:
                await asyncio.sleep(_SWEEP_SECONDS)
                self._sessions.sweep()

        sweeping = asyncio.create_task(sweep())
        yield
        sweeping.cancel()

    def _within(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """Finds the session, and turns what is refused into a status with a sentence."""

        async def handle(request: Request) -> Response:
            session = self._sessions.find(request.path_params["token"])
            if session is None:
                return _error(404, "This page was closed meanwhile; load it again")
            try:
                return await handler(request, session)
            except FullError as error:
                return _error(413, str(error))
            except (InputError, RunFailedError) as error:
                return _error(400, str(error))
            except ClientDisconnect:
                return Response(status_code=400)

        return handle

    async def _begin(self, request: Request) -> Response:
        try:
            session = self._sessions.begin()
        except FullError as error:
            return _error(503, str(error))
        return JSONResponse({"session": session.token, **self._service.describe()}, 201)

    async def _upload(self, request: Request, session: Session) -> Response:
        announced = request.headers.get("content-length", "0")
        if not announced.isdecimal() or int(announced) > self._sessions.max_upload_bytes:
            raise FullError(f"Files may have {self._sessions.max_upload_bytes / 2**20:g} MiB at most")
        parts = request.stream()
        with self._sessions.receive(session, request.query_params.get("name", "")) as file:
            while True:
                try:
                    part = await asyncio.wait_for(anext(parts), _STALLED_SECONDS)
                except StopAsyncIteration:
                    break
                except TimeoutError:
                    return _error(408, "The file stopped arriving; upload it again")
                file.write(part)
            upload = file.done()
        return JSONResponse({"name": upload.name, "kind": "video" if upload.is_video else "image"}, 201)

    async def _segment(self, request: Request, session: Session) -> Response:
        settings = self._service.read_request(await _json(request))
        if session.working >= _MOST_WAITING:
            return _error(429, "This page waits for an answer already")
        return StreamingResponse(self._segmenting(session, settings), media_type="application/x-ndjson")

    async def _segmenting(self, session: Session, settings: Any) -> AsyncIterator[str]:
        """Lines of JSON until the answer is there; nobody listening ends the work."""
        loop, events = asyncio.get_running_loop(), asyncio.Queue[dict[str, Any] | None]()
        abandoned = threading.Event()

        def tell(event: dict[str, Any] | None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(events.put_nowait, event)

        def progress(name: str, done: int, total: int) -> None:
            if self.ending.is_set() or abandoned.is_set() or session.ended.is_set():
                raise InputError("the page was closed")
            tell({"progress": f"{name}: {done}/{total} frames", "done": done, "total": total})

        def work() -> dict[str, Any]:
            if self.ending.is_set() or abandoned.is_set() or session.ended.is_set():
                raise InputError("the page was closed")
            return self._service.segment(session, settings, progress)

        session.working += 1
        future = self._predicting.submit(work)
        future.add_done_callback(lambda _: tell(None))
        try:
            while (event := await events.get()) is not None:
                yield _line(event)
            yield _line(_outcome(future))
        finally:
            abandoned.set()
            future.cancel()
            session.working -= 1

    async def _picture(self, request: Request, session: Session) -> Response:
        query = request.query_params
        opacity = query.get("opacity", "")
        drawing = self._service.read_drawing(
            int(opacity) if opacity.isascii() and opacity.isdecimal() and len(opacity) <= 3 else None,
            query.get("layer"),
            query.getlist("hidden"),
        )
        picture = await self._draw(
            functools.partial(self._service.picture, session, request.path_params["index"], drawing)
        )
        return Response(picture, media_type="image/jpeg")

    async def _masks(self, request: Request, session: Session) -> Response:
        name, content = await self._draw(functools.partial(self._service.masks, session))
        headers = {"content-disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}"}
        return Response(content, media_type="application/zip", headers=headers)

    async def _clip(self, request: Request, session: Session) -> Response:
        index = request.path_params["index"]
        if index >= len(session.clips):
            return _error(404, "This video is no longer kept; segment it again")
        path, name = session.clips[index]
        kind = "attachment" if "download" in request.query_params else "inline"
        try:
            return FileResponse(
                path,
                media_type="video/mp4",
                filename=name,
                content_disposition_type=kind,
                stat_result=path.stat(),
            )
        except FileNotFoundError:
            return _error(404, "This video is no longer kept; segment it again")

    async def _alive(self, request: Request, session: Session) -> Response:
        return Response(status_code=204)  # finding the session was all

    async def _clear(self, request: Request, session: Session) -> Response:
        self._sessions.clear(session)
        return Response(status_code=204)

    async def _end(self, request: Request, session: Session) -> Response:
        self._sessions.end(session)
        return Response(status_code=204)

    async def _draw(self, job: Callable[[], Any]) -> Any:
        return await asyncio.wrap_future(self._drawing.submit(job))


def _static(name: str, kind: str) -> Callable[[Request], Awaitable[Response]]:
    """A text of the package, read once: no path of a request ever becomes a path of a file."""
    content = resources.files("iccld.app").joinpath("assets", name).read_bytes()

    async def answer(request: Request) -> Response:
        return Response(content, media_type=kind)

    return answer


async def _json(request: Request) -> Any:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _LONGEST_SETTINGS:
            raise InputError("settings are too long")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InputError("settings are no JSON") from error


def _outcome(future: Any) -> dict[str, Any]:
    error = future.exception()
    if error is None:
        return {"result": future.result()}
    if isinstance(error, InputError | RunFailedError):
        return {"error": str(error)}
    traceback.print_exception(error, file=sys.stderr)
    return {"error": "The file could not be segmented; the terminal of the app says why"}


def _line(event: dict[str, Any]) -> str:
    return json.dumps(event, allow_nan=False) + "\n"


def _error(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status)
