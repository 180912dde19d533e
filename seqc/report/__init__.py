"""From a plan to what a person reads: reports, formulas, pages."""
