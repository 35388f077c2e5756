"""fttool: fine-tune language models from a validated recipe in which every strategy is a plugin."""
