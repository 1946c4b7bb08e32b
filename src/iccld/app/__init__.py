"""The page in the browser: a model tried on one's own images and clips.

``guard`` decides whose requests are answered, ``routes`` lists all that can be asked, ``sessions`` keeps what belongs
to one open page, ``service`` does the work, ``server`` runs them. Only ``guard``, ``routes`` and ``server`` know HTTP.
"""
