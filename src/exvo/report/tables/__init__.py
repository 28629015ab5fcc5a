"""Tables 1-4 and the tables beside them."""
