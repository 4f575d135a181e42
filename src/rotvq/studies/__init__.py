"""Studies: the paper's experiments and our ablations as data, a resumable runner, and reports."""
