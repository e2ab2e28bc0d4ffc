"""What bounds a bar that is missed, and what was tried: shown on the page where the run misses it."""

NOTES: dict[str, str] = {}
