"""Sets of runs that differ in one thing each, run, scored and put into one table."""
