"""Settings for every test: shape checks on, one thread, the same random examples each run."""

from __future__ import annotations

import cv2
import hypothesis
import jaxtyping
import torch

# No test has imported iccld yet: from here on its annotated shapes and types are checked at every call.
# The numeric tower lets an int pass for a float, as mypy does.
jaxtyping.install_import_hook("iccld", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

torch.set_num_threads(1)
cv2.setNumThreads(0)
hypothesis.settings.register_profile("iccld", derandomize=True, deadline=None, max_examples=25)
hypothesis.settings.load_profile("iccld")
