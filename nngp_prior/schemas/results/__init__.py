"""Results, their JSON format, and their readers in clients."""
