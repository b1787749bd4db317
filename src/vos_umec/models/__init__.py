"""The networks, pure torch: encoder E, frame-mask encoder V, affinity, decoder D, and UMEC that joins them."""
