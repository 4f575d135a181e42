"""Metrics over whole splits. Import the module you need."""
