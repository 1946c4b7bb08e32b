"""The web app, in which users try or compare models on their own images and videos in the browser.

``guard`` filters requests, ``routes`` defines the HTTP routes, ``sessions`` stores the data of each open page,
``service`` segments and draws, and ``server`` runs the app. Only ``guard``, ``routes`` and ``server`` use HTTP.
"""
