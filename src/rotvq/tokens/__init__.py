"""Images to tokens and back, and files of tokens."""
