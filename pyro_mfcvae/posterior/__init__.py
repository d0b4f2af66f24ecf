"""What can be said beyond the guide: importance weights, NUTS, and draws for ArviZ."""
