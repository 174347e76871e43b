"""What knows no sound: errors, checks of settings, files, locks, the terminal, the machine."""
