"""Commands of ``iccld``, one module for each command or group of commands, and modules that several commands share."""
