"""The built documentation in a browser: nox --session site."""
