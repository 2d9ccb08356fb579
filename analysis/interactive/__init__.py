"""Charts that a reader works with in the page: they need no request and no server."""
