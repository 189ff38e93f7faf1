"""The six panes of the session screen, and the list that several of them are made of."""
