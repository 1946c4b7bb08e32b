"""The parts of the procedural street scenes; :mod:`iccld.data.street_scenes` is the door to them."""
