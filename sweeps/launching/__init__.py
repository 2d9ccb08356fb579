"""From what a command asks for to what runs, and what the command says of it."""
