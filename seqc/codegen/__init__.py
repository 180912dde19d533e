"""From a plan to text: a printer for the C family, and the templates that it fills."""
