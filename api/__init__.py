"""The service: durable jobs over HTTP around the library."""
