"""Many calls at once: fan-outs, channels and races."""
