"""What training on many devices should cost, on paper, and how far the paper agrees with XLA."""
