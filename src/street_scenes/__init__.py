"""Procedural street scenes with labels, in three looks: ``game``, ``camera`` and ``night``.

``render_scene`` draws one scene. The package needs only NumPy, OpenCV and jaxtyping.
"""

from street_scenes.looks import LOOKS
from street_scenes.render import LARGEST, SMALLEST, Scene, render_scene

__all__ = ["LARGEST", "LOOKS", "SMALLEST", "Scene", "render_scene"]
