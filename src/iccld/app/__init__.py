"""The web app: segments the user's images and videos in the browser, to try or compare models.

``guard`` filters requests, ``routes`` defines the HTTP routes, ``sessions`` stores the data of each open page,
``service`` segments and draws, and ``server`` runs the app. Only ``guard``, ``routes`` and ``server`` use HTTP.
"""
