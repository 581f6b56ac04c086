"""Check stored labels against the labeler that is named: recompute, compare, and name the cause of a difference."""
