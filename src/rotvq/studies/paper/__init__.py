"""From the studies' records to tables, figures and verdicts beside the paper's; never torch."""
