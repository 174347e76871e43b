"""Tensors only: stems by name, STFT, masks, input scale."""
