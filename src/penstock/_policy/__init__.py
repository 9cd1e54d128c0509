"""Decisions as pure functions of what is passed in, time included."""
