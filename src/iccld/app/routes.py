"""HTTP routes of the app. No route uses a name or path from a request to select a file of this machine.

| method | path | response or effect |
|---|---|---|
| GET | `/`, `/page.css`, `/page.js`, `/brush.js`, `/adapt.js` | the page, its style and its scripts |
| POST | `/sessions` | opens a session; returns the session's token and the initial content of the page |
| POST | `/sessions/TOKEN/upload?name=NAME` | stores the body as the session's file |
| POST | `/sessions/TOKEN/segment` | segments the file; returns JSON lines with progress and with the result or error |
| GET | `/sessions/TOKEN/picture/INDEX` | JPEG of one model's prediction, drawn as the query specifies |
| GET | `/sessions/TOKEN/labels/INDEX` | gray PNG of one model's label map, with the ids of `iccld predict` |
| GET | `/sessions/TOKEN/masks` | zip file of label maps, color maps and uncertainty maps |
| GET | `/sessions/TOKEN/clip/INDEX` | MP4 video with the overlay of one model |
| POST | `/sessions/TOKEN/compare/SECRET` | shows the app's model beside an adapted one; returns the page's content |
| POST | `/sessions/TOKEN/alive` | keeps the session open |
| POST | `/sessions/TOKEN/clear` | removes the data of the session |
| POST | `/sessions/TOKEN/end` | ends the session |

The routes of adaptations are listed in ``iccld.app.adaptation_routes``.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from iccld.app.adaptation_routes import LONGEST_SETTINGS, AdaptationRoutes, receive_body
from iccld.app.adaptations import Adaptations
from iccld.app.answers import Drawing, Settings, encode_labels, encode_view, pack_masks
from iccld.app.service import Service, page_facts
from iccld.app.sessions import FullError, Session
from iccld.data.image_files import IMAGE_SUFFIXES
from iccld.documents import build, parse_json
from iccld.errors import InputError, RunFailedError

_MOST_WAITING = 2  # maximum number of predictions per page: one running and one waiting
_SWEEP_SECONDS = 15
_REFUSALS = (HTTPException, InputError, RunFailedError, ClientDisconnect)


class Routes:
    """The HTTP routes of the app. ``app`` is the ASGI application, which ``iccld.app.guard.Guard`` must wrap.

    Without ``adaptations``, pages cannot adapt the model.
    """

    def __init__(self, service: Service, adaptations: Adaptations | None = None) -> None:
        self._service, self._sessions = service, service.sessions
        # All pages share one thread for predictions and two threads for drawing.
        self._predicting, self._drawing = ThreadPoolExecutor(1), ThreadPoolExecutor(2)
        self._predictions: set[Future[Any]] = set()
        self._adapting: AdaptationRoutes | None = None
        self._proposed: dict[str, Any] | None = None
        if adaptations is not None:
            self._adapting = AdaptationRoutes(adaptations, service.models[0], self._predicting)
            self._proposed = {
                "steps": adaptations.default_steps,
                "model": service.models[0].name,
                "suffixes": IMAGE_SUFFIXES,
            }
        of_session = [
            Route("/upload", self._upload, methods=["POST"]),
            Route("/segment", self._segment, methods=["POST"], max_body_size=LONGEST_SETTINGS),
            Route("/picture/{index:int}", self._picture),
            Route("/labels/{index:int}", self._labels),
            Route("/masks", self._masks),
            Route("/clip/{index:int}", self._clip),
            Route("/compare/{secret}", self._compare, methods=["POST"]),
            Route("/alive", self._doing(lambda _: None), methods=["POST"]),
            Route("/clear", self._doing(Session.clear), methods=["POST"]),
            Route("/end", self._doing(self._sessions.end), methods=["POST"]),
        ]
        self.app = Starlette(
            routes=[
                Route("/", _asset("page.html", "text/html")),
                Route("/page.css", _asset("page.css", "text/css")),
                Route("/page.js", _asset("page.js", "text/javascript")),
                Route("/brush.js", _asset("brush.js", "text/javascript")),
                Route("/adapt.js", _asset("adapt.js", "text/javascript")),
                *(self._adapting.routes if self._adapting else ()),
                Route("/sessions", self._begin, methods=["POST"]),
                Mount("/sessions/{token}", routes=of_session),
            ],
            exception_handlers=dict.fromkeys(_REFUSALS, _refuse),
            lifespan=self._lifespan,
        )
        self.app.router.redirect_slashes = False

    def is_idle_within(self, seconds: float) -> bool:
        """Cancels waiting predictions, refuses new predictions, and waits for the running prediction.

        Returns whether the running prediction has ended within ``seconds``.
        """
        for executor in (self._predicting, self._drawing):
            executor.shutdown(wait=False, cancel_futures=True)
        if self._adapting is not None:
            self._adapting.shut_down()
        return not wait(self._predictions, seconds).not_done

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        async def sweep() -> None:
            while True:
                await asyncio.sleep(_SWEEP_SECONDS)
                self._sessions.sweep()
                if self._adapting is not None:
                    await self._adapting.sweep()

        sweeping = asyncio.create_task(sweep())
        yield
        sweeping.cancel()

    def _find(self, request: Request) -> Session:
        session = self._sessions.find(request.path_params["token"])
        if session is None:
            raise HTTPException(404, "This page was closed meanwhile; load it again")
        return session

    async def _begin(self, request: Request) -> Response:
        try:
            session = self._sessions.begin()
        except FullError as error:
            raise HTTPException(503, str(error)) from error
        return JSONResponse({"session": session.token, **self._facts(session)}, 201)

    def _facts(self, session: Session) -> dict[str, Any]:
        facts = page_facts(self._service.models_of(session), self._sessions.max_upload_bytes)
        return {**facts, "adaptation": self._proposed}

    async def _compare(self, request: Request) -> Response:
        session = self._find(request)
        if self._adapting is None:
            raise HTTPException(404, "This app does not adapt models")
        adapted = await self._adapting.load_model(request.path_params["secret"])
        session.forget()
        session.models = (self._service.models[0], adapted)
        return JSONResponse(self._facts(session))

    async def _upload(self, request: Request) -> Response:
        session = self._find(request)
        with self._sessions.receive(session, request.query_params.get("name", "")) as write:
            await receive_body(request, write)
        assert session.upload is not None
        kind = "video" if session.upload.is_video else "image"
        return JSONResponse({"name": session.upload.name, "kind": kind}, 201)

    async def _segment(self, request: Request) -> Response:
        session = self._find(request)
        settings = build(Settings, parse_json(await request.body(), "settings"), "settings")
        if session.working >= _MOST_WAITING:
            raise HTTPException(429, "This page waits for an answer already")
        return StreamingResponse(self._segmenting(session, settings), media_type="application/x-ndjson")

    async def _segmenting(self, session: Session, settings: Settings) -> AsyncIterator[str]:
        """Yields JSON lines with the progress and the result. If the client disconnects, the work is canceled."""
        loop, events = asyncio.get_running_loop(), asyncio.Queue[dict[str, Any] | None]()
        abandoned = threading.Event()

        def check() -> None:
            if abandoned.is_set() or session.ended.is_set():
                raise InputError("the page was closed")

        def progress(name: str, done: int, total: int) -> None:
            check()
            event = {"progress": f"{name}: {done}/{total} frames", "done": done, "total": total}
            loop.call_soon_threadsafe(events.put_nowait, event)

        def work() -> dict[str, Any]:
            check()
            return self._service.segment(session, settings, progress)

        future = self._predicting.submit(work)
        self._predictions.add(future)
        future.add_done_callback(self._predictions.discard)
        result = asyncio.wrap_future(future)
        result.add_done_callback(lambda _: events.put_nowait(None))
        session.working += 1
        try:
            while (event := await events.get()) is not None:
                yield _line(event)
            yield _line(_outcome(result))
        finally:
            abandoned.set()
            result.cancel()
            session.working -= 1

    async def _picture(self, request: Request) -> Response:
        session, query, index = self._find(request), request.query_params, request.path_params["index"]
        opacity = query.get("opacity", "")
        asked = {
            "opacity": int(opacity) if re.fullmatch("[0-9]{1,3}", opacity) else opacity,
            "layer": query.get("layer", ""),
            "hidden": query.getlist("hidden"),
        }
        drawing = build(Drawing, asked, "settings")
        picture = await self._draw(lambda: encode_view(session.kept_answers().draw(index, drawing)))
        return Response(picture, media_type="image/jpeg")

    async def _labels(self, request: Request) -> Response:
        session, index = self._find(request), request.path_params["index"]
        picture = await self._draw(lambda: encode_labels(session.kept_answers().find(index)))
        return Response(picture, media_type="image/png")

    async def _masks(self, request: Request) -> Response:
        session = self._find(request)
        name, content = await self._draw(lambda: pack_masks(session.kept_answers()))
        headers = {"content-disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}"}
        return Response(content, media_type="application/zip", headers=headers)

    async def _clip(self, request: Request) -> Response:
        session, index = self._find(request), request.path_params["index"]
        if index >= len(session.clips) or not session.clips[index][0].exists():
            raise HTTPException(404, "This video is no longer kept; segment it again")
        path, name = session.clips[index]
        kind = "attachment" if "download" in request.query_params else "inline"
        return FileResponse(path, media_type="video/mp4", filename=name, content_disposition_type=kind)

    def _doing(self, act: Callable[[Session], None]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            act(self._find(request))
            return Response(status_code=204)

        return answer

    async def _draw(self, job: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._drawing, job)


def _asset(name: str, kind: str) -> Callable[[Request], Awaitable[Response]]:
    """Returns a route handler for a file of the package. The file is read only once, so no URL is used as a path."""
    content = (Path(__file__).parent / "assets" / name).read_bytes()

    async def answer(request: Request) -> Response:
        return Response(content, media_type=kind)

    return answer


async def _refuse(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)
    return JSONResponse({"error": str(error)}, 413 if isinstance(error, FullError) else 400)


def _outcome(result: asyncio.Future[dict[str, Any]]) -> dict[str, Any]:
    error = result.exception()
    if error is None:
        return {"result": result.result()}
    if isinstance(error, InputError | RunFailedError):
        return {"error": str(error)}
    traceback.print_exception(error, file=sys.stderr)
    return {"error": "The file could not be segmented; the terminal of the app says why"}


def _line(event: dict[str, Any]) -> str:
    return json.dumps(event, allow_nan=False) + "\n"
