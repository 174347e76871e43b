"""Score files, and the averages with intervals, tables, figures and reports made from them."""
