"""Frames in, masks out: readers of videos and frame folders, indexed PNG, video files, result zips."""
