"""Callbacks of training: when pseudo masks are refreshed, a schedule by the clock, the wait for data."""
