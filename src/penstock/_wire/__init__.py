"""The wire: bytes become events, chunks and errors, without I/O.

Its rules are in docs/pages/internals/wire.md, by number.
"""
