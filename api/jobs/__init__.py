"""Jobs: the durable table of them that is the truth of the service."""
