"""penstock under other people's clients: `compat.httpx`, `compat.httpx2`.

Nothing in here is imported with `penstock`; each module needs the extra of its name.
"""
