"""A prior over tokens: training, sampling, measures. Import the module you need."""
