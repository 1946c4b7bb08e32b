"""Forks commands from one process that has imported the heavy libraries, so that a trial costs no start-up.

Reads one JSON request per line on stdin and answers with two lines on stdout: the process id of the child, then how it
ended. A request has ``argv``, ``cwd``, ``log`` (stdout and stderr of the child) and optionally ``env``; ``kill_at`` and
``fail_at``, the number of the file operation at which the child kills itself or meets a full disk; ``file_size``, the
largest file that it may write; and ``address_space``, its limit of virtual memory, in bytes.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import sys
from functools import partial
from typing import Any

import torch

torch.set_num_threads(1)

_HEAVY = (
    "av",
    "cv2",
    "lightning.fabric",
    "matplotlib",
    "tensorboardX",
    "torchmetrics",
    "tyro",
    "iccld.cli",
    "iccld.build",
    "iccld.commands.demo",
    "iccld.commands.evaluate",
    "iccld.commands.export",
    "iccld.commands.predict",
    "iccld.commands.train",
    "iccld.inference.export",
    "iccld.inference.segmenter",
    "iccld.training.loop",
)
_WRITES = ("os.rename", "os.remove", "os.mkdir", "os.link", "os.truncate", "shutil.move")


def _watch_writes(at: int, end: Any) -> None:
    """Calls ``end`` at the ``at``-th operation that changes a file."""
    seen = 0

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal seen
        writing = event in _WRITES
        if event == "open" and isinstance(args[0], str | bytes):
            flags = args[2] or 0
            writing = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) and "/dev/" not in os.fsdecode(
                args[0]
            )
        if writing:
            seen += 1
            if seen == at:
                end()

    sys.addaudithook(hook)


def _fill_disk() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _child(request: dict[str, Any]) -> int:
    os.setsid()
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    for number, target in ((0, null), (1, log), (2, log)):
        os.dup2(target, number)
    os.chdir(request["cwd"])
    os.environ.update(request.get("env", {}))
    for name, limit in (("file_size", resource.RLIMIT_FSIZE), ("address_space", resource.RLIMIT_AS)):
        if request.get(name) is not None:
            resource.setrlimit(limit, (request[name], request[name]))
    if request.get("kill_at"):
        _watch_writes(request["kill_at"], lambda: os.kill(os.getpid(), signal.SIGKILL))
    if request.get("fail_at"):
        _watch_writes(request["fail_at"], _fill_disk)
    from iccld.cli import main

    sys.argv = ["iccld", *request["argv"]]
    try:
        return main(request["argv"])
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1


def serve() -> None:
    """Answers requests until stdin is closed."""
    for name in _HEAVY:
        __import__(name)
    import iccld.models.image_coder as image_coder

    # A narrow backbone: otherwise writing checkpoints would be most of the work.
    image_coder.CompactCoder = partial(image_coder.CompactCoder, channels=(8, 12, 16, 24, 32))  # type: ignore[misc]
    requests = os.fdopen(os.dup(0), "r")
    answers = os.fdopen(os.dup(1), "w")
    for line in requests:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = _child(request)
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                try:
                    sys.stdout.flush()
                    sys.stderr.flush()
                finally:
                    os._exit(code)
        print(json.dumps(pid), file=answers, flush=True)
        _, status, usage = os.wait4(pid, 0)
        print(
            json.dumps([os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024]), file=answers, flush=True
        )


if __name__ == "__main__":
    serve()
