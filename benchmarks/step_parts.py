"""Time and floating-point operations of a training step, by part of the step and by kind of operator."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any
from unittest import mock

from step_times import Step
from timing import seconds_of, synchronize
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils.flop_counter import FlopCounterMode

import iccld.adaptation.losses
from iccld.adaptation.losses import Adversary

_OPTIMIZER, _LOSSES = "optimizer and EMA", "losses"

# Kinds of operators with patterns. The first matching pattern gives the kind of an operator. Operators in the
# optimizer, in the teacher's average and in a loss get the kind of the enclosing part instead.
_KINDS = (
    ("convolution, backward", r"convolution_?backward"),
    ("convolution, forward", r"conv"),
    ("matrix product", r"::(b|add|badd)?mm$|mm_?backward|matmul|linear|attention"),
    ("group norm", r"group_?norm"),
    (_LOSSES, r"softmax|nll_?loss|crossentropy|cross_entropy"),
    ("interpolation and pooling", r"upsample|pool|interpolate|grid_sampler"),
    (
        "copy and layout",
        r"copy|clone|contiguous|cat|stack|index|slice|select|view|reshape|transpose|permute|expand|empty|zero|fill|"
        r"ones|full|resize|narrow|split|chunk|pad|where|arange|squeeze|as_strided|alias|detach|flatten|::to$|new_|accumulategrad",
    ),
    (
        "activation and pointwise",
        r"silu|sigmoid|gelu|relu|mul|add|sub|div|rsqrt|sqrt|square|pow|mean|sum|exp|log|clamp|neg|max|min|"
        r"::(eq|ne|lt|gt|le|ge)_?$|bitwise|logical|lerp|norm|sin|cos|rsub",
    ),
)


@dataclass
class _Part:
    """Time in seconds and floating-point operations of one part of a step."""

    seconds: float = 0.0
    flops: int = 0


class _Parts:
    """Measurement of the parts of a step. Nested calls count for the outermost part, so that parts do not overlap."""

    def __init__(self, device: str) -> None:
        self.parts: defaultdict[str, _Part] = defaultdict(_Part)
        self.counter: FlopCounterMode | None = None
        self._device, self._busy = device, False

    def watch(self, stack: ExitStack, owner: Any, method: str, part: str) -> None:
        """Wraps ``owner.method``, so that calls count as a part of the step until ``stack`` is closed."""
        original = getattr(owner, method)

        @wraps(original)
        def watched(*args: Any, **kwargs: Any) -> Any:
            with self._section(part):
                return original(*args, **kwargs)

        stack.enter_context(mock.patch.object(owner, method, watched))

    @contextmanager
    def _section(self, part: str) -> Iterator[None]:
        if self._busy:
            yield
            return
        self._busy = True
        synchronize(self._device)
        counted = self.counter.get_total_flops() if self.counter else 0
        start = time.perf_counter()
        with record_function(part):
            yield
        synchronize(self._device)
        if self.counter is None:
            self.parts[part].seconds += time.perf_counter() - start
        else:
            self.parts[part].flops += self.counter.get_total_flops() - counted
        self._busy = False


def count_flops(step: Step, repeats: int) -> int:
    """Counts the floating-point operations of the next steps in convolutions and matrix products.

    A multiplication and an addition count as two.
    """
    with FlopCounterMode(display=False) as counter:
        for _ in range(repeats):
            step()
    return counter.get_total_flops()


def measure_parts(step: Step, repeats: int, device: str) -> list[dict[str, Any]]:
    """Measures milliseconds, GFLOP and GFLOP/s of each part of a step, as means over the same steps.

    The last row is the rest of the step.
    """
    first, parts, total = step.index, _Parts(device), _Part()
    with ExitStack() as stack:
        _watch_all(parts, stack, step)
        for _ in range(repeats):
            total.seconds += seconds_of(step, device)
        step.index = first
        with FlopCounterMode(display=False) as parts.counter:
            for _ in range(repeats):
                step()
        total.flops = parts.counter.get_total_flops()
    known = list(parts.parts.values())
    rest = _Part(total.seconds - sum(p.seconds for p in known), total.flops - sum(p.flops for p in known))
    return [
        {
            "part": name,
            "ms": round(1e3 * part.seconds / repeats, 2),
            "share": round(part.seconds / total.seconds, 4),
            "gflop": round(part.flops / repeats / 1e9, 3),
            "gflops": round(part.flops / part.seconds / 1e9, 1),
        }
        for name, part in [*parts.parts.items(), ("rest", rest)]
    ]


def _watch_all(parts: _Parts, stack: ExitStack, step: Step) -> None:
    update, student, teacher = step.update, step.update.model, step.update.teacher_model
    parts.watch(stack, update, "to_device", "batch to device")
    # The student calls its parts by several methods, not only by ``forward``. A nested call is not counted twice.
    for module, methods, part in (
        (student.image_coder, ("forward",), "image coder"),
        *([(student.neck, ("forward",), "neck")] if student.spec.light_steps else []),
        (student.denoiser, ("project", "forward"), "denoiser"),
        (student.label_encoder, ("forward",), "label encoder"),
        (student.label_decoder, ("project", "forward"), "label decoder"),
        (teacher, ("encode", "segment"), "teacher"),
        (iccld.adaptation.losses, ("segmentation_loss", "denoising_loss"), _LOSSES),
        (Adversary, ("segmenter_loss",), "adversarial loss"),
        (Adversary, ("discriminator_loss",), "discriminator, forward"),
        (update.fabric, ("backward",), "backward"),
        (update.fabric, ("clip_gradients",), _OPTIMIZER),
        (update.optimizer, ("step",), _OPTIMIZER),
        (update.teacher, ("update_parameters",), _OPTIMIZER),
    ):
        for method in methods:
            parts.watch(stack, module, method, part)


def profile_kinds(step: Step, device: str) -> dict[str, float]:
    """Returns the fraction of a step's time per kind of operator, measured by the profiler.

    With ``cuda``, the time is that of the GPU.
    """
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device == "cuda" else [])
    with ExitStack() as stack:
        _watch_all(_Parts(device), stack, step)
        with profile(activities=activities) as profiler:
            step()
            synchronize(device)
    own: Callable[[Any], float] = (
        (lambda event: event.self_device_time_total)
        if device == "cuda"
        else (lambda event: event.self_cpu_time_total)
    )
    spent: defaultdict[str, float] = defaultdict(float)
    for event in profiler.events() or ():
        if event.device_type == DeviceType.CPU:
            spent[_kind(event)] += own(event)
    total = sum(spent.values())
    return {kind: round(spent[kind] / total, 4) for kind in sorted(spent, key=lambda k: -spent[k])}


def _kind(event: Any) -> str:
    place = event
    while place is not None:
        if place.name in (_OPTIMIZER, _LOSSES):
            return str(place.name)
        if place.name.startswith("Optimizer."):
            return _OPTIMIZER
        place = place.cpu_parent
    if "::" not in event.name or "evaluate_function" in event.name:
        return "interpreter and autograd"  # time outside of operators, because operators have separate events
    return next((kind for kind, names in _KINDS if re.search(names, event.name.lower())), "other")
