"""Whole networks on the event heap."""
