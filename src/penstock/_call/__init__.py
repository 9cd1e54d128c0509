"""One call: attempts until the first byte, then its answer, streamed or whole."""
