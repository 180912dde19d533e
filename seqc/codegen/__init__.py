"""From plans to source text: a printer a target, and the views that the templates fill in."""
