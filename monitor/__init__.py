"""Everything between connectors and models, and the program around it."""
