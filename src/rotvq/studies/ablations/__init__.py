"""Beyond the paper: how far its idea carries, one lever at a time."""
