"""What is minimized: the segmentation loss and the correspondence objectives behind one interface."""
