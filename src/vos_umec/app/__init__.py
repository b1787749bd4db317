"""The app in the browser: draw objects on a video, follow them, correct, download; served to this machine alone."""
