"""What needs an engine is collected where the engine is: nox --session tests_engines."""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore = [
    test
    for test, engine in (
        ("test_columns.py", "pyarrow"),
        ("test_daft.py", "daft"),
        ("test_dask.py", "dask"),
        ("test_ray.py", "ray"),
    )
    if not find_spec(engine)
]
