"""Sections: one file each, from a launch to what the report says of it."""
