"""State, optimizer, objectives, step, loop and checkpoints."""
