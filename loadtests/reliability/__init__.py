"""What may break in real servers, and what does: faults, load and hostile input."""
