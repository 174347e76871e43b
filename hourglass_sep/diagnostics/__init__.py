"""What `hourglass-sep doctor` examines."""
