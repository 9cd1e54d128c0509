"""Bounds on requests in flight and on their rate."""
