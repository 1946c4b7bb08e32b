"""The parts of the procedural street scenes; ``iccld.data.street_scenes`` is the door to them."""
