"""Networks, their training and their predictions."""
