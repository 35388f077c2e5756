"""Training: what trains and how it is pulled, what core adds to a Trainer, measures and checkpoints."""
