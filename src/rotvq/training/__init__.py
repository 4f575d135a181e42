"""Training: configuration, run folders, checkpoints, the loop. Import the module you need."""
