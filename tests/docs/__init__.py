"""Pages that are drawn from the code, and tests of what pages say about the repository."""
