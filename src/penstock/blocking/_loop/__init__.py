"""The event loop in a thread that the blocking client drives, and the way to it and back."""
