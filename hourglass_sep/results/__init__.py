"""Files of scores and what is made of them: averages with intervals, tables, figures, reports."""
