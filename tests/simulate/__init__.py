"""Swarm runs of whole networks, the bugs that are planted to show that they would be found."""
