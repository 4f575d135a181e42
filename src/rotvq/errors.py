"""The one exception that the command line turns into a single line."""


class UserError(ValueError):
    """Something the caller can put right: says what was expected, what was received, what to do."""
