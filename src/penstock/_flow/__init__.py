"""anyio: attempts until the first byte, the stream, and many streams at once."""
