"""Beyond the guide: importance weights, NUTS, and draws for ArviZ."""
