"""What commands share: options, tables and the live view."""
