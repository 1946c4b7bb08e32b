"""The web app: tries models on the user's images and clips in the browser.

``guard`` filters requests, ``routes`` defines the HTTP routes, ``sessions`` stores the data of each open page,
``service`` predicts and draws, and ``server`` runs the app. Only ``guard``, ``routes`` and ``server`` use HTTP.
"""
