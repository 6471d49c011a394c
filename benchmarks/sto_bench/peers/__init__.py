"""Other libraries behind one interface, each at its best: all threads, contiguous float32 rows made beforehand."""
