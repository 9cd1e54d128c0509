"""Tools that write files of the project."""
