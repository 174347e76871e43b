"""Code independent of audio: errors, setting checks, file writing, locks, terminal output, device, hardware."""
