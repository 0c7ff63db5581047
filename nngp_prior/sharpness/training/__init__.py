"""Training of finite networks, and what trained networks compute."""
