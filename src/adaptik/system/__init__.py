"""Errors, memory, signals, compiled programs on disk, what saved results may contain."""
