"""What is minimised: the segmentation loss and the correspondence objectives behind one interface."""
