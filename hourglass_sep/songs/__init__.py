"""Songs as files: which ones, in what order, and what is printed about them."""
