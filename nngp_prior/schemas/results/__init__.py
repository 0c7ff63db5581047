"""Results: as they are computed, as JSON has them, and as clients read them."""
