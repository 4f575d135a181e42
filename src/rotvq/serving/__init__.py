"""A local web page to explore and edit the tokens of images."""
