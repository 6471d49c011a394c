"""What assignments were worth, where something outside the engine can say so."""
