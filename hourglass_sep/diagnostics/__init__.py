"""Checks of the installation for `hourglass-sep doctor`."""
