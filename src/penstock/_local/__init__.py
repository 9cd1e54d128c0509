"""The embedded model: a server of its own process, for the demo, development and tests."""
