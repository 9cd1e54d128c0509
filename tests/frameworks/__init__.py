"""Penstock under the frameworks that people write agents with, each through its own interface.

Their ranges of openai do not meet, so there are three environments: see the dependency groups
`frameworks-a`, `-b` and `-c`, and the nox session `tests_frameworks`. The default run leaves this
folder out.
"""
