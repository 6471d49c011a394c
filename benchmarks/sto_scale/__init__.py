"""What a recipient costs at any size, what the driver of a run holds, what a cluster adds: measured, then fitted."""
