"""Frames in, masks out: video and frame-folder readers, indexed PNG, overlays, video writing."""
