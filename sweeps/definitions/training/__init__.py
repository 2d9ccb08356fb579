"""How a network is trained: batch size, epochs, optimizer, schedule, arithmetic."""
