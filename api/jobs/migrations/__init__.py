"""Database migrations, run at start-up."""
