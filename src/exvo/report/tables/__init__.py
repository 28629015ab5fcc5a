"""Tables 1 to 4, and the tables of emotions and groups."""
