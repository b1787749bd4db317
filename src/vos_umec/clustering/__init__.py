"""Space-time clustering of one video into pseudo masks (UMEC eq. 1)."""
