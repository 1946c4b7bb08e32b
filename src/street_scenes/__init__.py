"""Procedural street scenes with labels, in three looks. Needs NumPy and OpenCV alone; ``render_scene`` draws one."""

from street_scenes.looks import LOOKS
from street_scenes.render import LARGEST, SMALLEST, Scene, render_scene

__all__ = ["LARGEST", "LOOKS", "SMALLEST", "Scene", "render_scene"]
