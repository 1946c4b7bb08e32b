"""Commands of ``iccld``, one module each, and modules that several commands share."""
