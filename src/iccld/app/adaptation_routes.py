"""HTTP routes of adaptations. They exist only if the app was started with ``--adapt-in``.

| method | path | response or effect |
|---|---|---|
| POST | `/adaptations` | creates an adaptation; returns its secret |
| GET | `/adaptations/SECRET` | state and progress |
| POST | `/adaptations/SECRET/images?name=NAME` | stores the body as one of the unlabeled images |
| POST | `/adaptations/SECRET/start` | starts or resumes the training |
| POST | `/adaptations/SECRET/stop` | stops the training after a checkpoint |
| POST | `/adaptations/SECRET/remove` | removes images, run and model |
| GET | `/adaptations/SECRET/frame/INDEX` | JPEG of the first image: 0 by the app's model, 1 by the newest weights |
| POST | `/adaptations/SECRET/onnx` | exports the adapted model |
| GET | `/adaptations/SECRET/model.onnx` | the exported model |
| GET | `/adaptations/SECRET/model.zip` | the adapted model as `iccld predict` reads it |
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from iccld.app.adaptation import Adaptation, Start
from iccld.app.adaptations import Adaptations
from iccld.app.answers import AppModel, Drawing, encode_view
from iccld.documents import build, parse_json

LONGEST_SETTINGS = 64 * 1024  # maximum size in bytes of the settings in a request
_STALLED_SECONDS = 60  # seconds without a received byte before an upload is aborted
_DRAWING = Drawing()


class AdaptationRoutes:
    """The routes of ``adaptations``. ``base`` is the app's model, which is adapted.

    ``predicting`` is the thread for predictions, which adaptations share with the uploads of sessions.
    """

    def __init__(self, adaptations: Adaptations, base: AppModel, predicting: ThreadPoolExecutor) -> None:
        self._all, self._base, self._predicting = adaptations, base, predicting
        # Stopping and exporting wait for processes, so requests for the state have threads of their own.
        self._waiting, self._reading = ThreadPoolExecutor(4), ThreadPoolExecutor(2)
        of_one = [
            Route("/", self._state),
            Route("/images", self._images, methods=["POST"]),
            Route("/start", self._start, methods=["POST"], max_body_size=LONGEST_SETTINGS),
            Route("/stop", self._doing(adaptations.stop), methods=["POST"]),
            Route("/remove", self._doing(adaptations.remove), methods=["POST"]),
            Route("/frame/{index:int}", self._frame),
            Route("/onnx", self._doing(Adaptation.export), methods=["POST"]),
            Route("/model.onnx", self._file(Adaptation.exported)),
            Route("/model.zip", self._file(Adaptation.pack)),
        ]
        self.routes: list[BaseRoute] = [
            Route("/adaptations", self._begin, methods=["POST"]),
            Mount("/adaptations/{secret}", routes=of_one),
        ]

    def find(self, secret: str) -> Adaptation:
        """Returns the adaptation with the given secret. Raises ``HTTPException`` with status 404 if there is none."""
        found = self._all.find(secret)
        if found is None:
            raise HTTPException(404, "This adaptation no longer exists")
        return found

    async def load_model(self, secret: str) -> AppModel:
        """Loads the newest weights of an adaptation, in the thread for predictions."""
        return await self._run(self._predicting, self.find(secret).model_like, self._base)

    async def sweep(self) -> None:
        """Removes adaptations that never started and whose page had no request for an hour."""
        await self._run(self._waiting, self._all.sweep)

    def shut_down(self) -> None:
        """Stops the running training."""
        for executor in (self._waiting, self._reading):
            executor.shutdown(wait=False, cancel_futures=True)
        self._all.stop_all()

    def _find(self, request: Request) -> Adaptation:
        return self.find(request.path_params["secret"])

    async def _begin(self, _: Request) -> Response:
        secret, adaptation = self._all.begin()
        return JSONResponse({"secret": secret, **adaptation.describe()}, 201)

    async def _state(self, request: Request) -> Response:
        return JSONResponse(await self._run(self._reading, self._find(request).describe))

    async def _images(self, request: Request) -> Response:
        adaptation = self._find(request)
        with self._all.receive(adaptation, request.query_params.get("name", "")) as (upload, write):
            await receive_body(request, write)
        await self._run(self._reading, self._all.check, adaptation, upload)
        return Response(status_code=204)

    async def _start(self, request: Request) -> Response:
        settings = build(Start, parse_json(await request.body(), "settings"), "settings")
        adaptation = self._find(request)
        self._all.start(adaptation, settings)
        return JSONResponse(adaptation.describe())

    async def _frame(self, request: Request) -> Response:
        adaptation, index = self._find(request), request.path_params["index"]

        def draw() -> bytes:
            return encode_view(adaptation.draw(self._base).draw(index, _DRAWING))

        return Response(await self._run(self._predicting, draw), media_type="image/jpeg")

    def _doing(self, act: Callable[[Adaptation], object]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            await self._run(self._waiting, act, self._find(request))
            return Response(status_code=204)

        return answer

    def _file(self, find: Callable[[Adaptation], Any]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            adaptation = self._find(request)
            path = await self._run(self._reading, find, adaptation)
            return FileResponse(path, filename=f"{adaptation.folder.name}{path.suffix}")

        return answer

    async def _run(self, executor: ThreadPoolExecutor, work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(executor, work, *arguments)


async def receive_body(request: Request, write: Callable[[bytes], None]) -> None:
    """Passes the parts of a request's body to ``write``.

    Raises ``HTTPException`` with status 408 if no byte arrives for a minute.
    """
    parts = aiter(request.stream())
    try:
        while (part := await asyncio.wait_for(anext(parts, None), _STALLED_SECONDS)) is not None:
            write(part)
    except TimeoutError as error:
        raise HTTPException(408, "The file stopped arriving; upload it again") from error
