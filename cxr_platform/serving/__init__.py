"""The champion behind an HTTP address: screening, its guards, its page, and the Ray Serve application."""
