"""Studies of functions: how often networks have each function, against estimates of its probability."""
