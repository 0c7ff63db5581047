"""Training of finite networks, and the functions of trained networks."""
