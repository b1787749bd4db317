"""Pictures of masks and segments: overlays, contact sheets."""
