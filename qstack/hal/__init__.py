"""The contracts of hardware: what a plugin is, and what its commands and events promise."""
