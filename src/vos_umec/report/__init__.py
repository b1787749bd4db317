"""The page of a run: what is in its folder, drawn into one HTML file."""
