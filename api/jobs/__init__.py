"""Jobs: what was accepted, who computes it, what came of it."""
