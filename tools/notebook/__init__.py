"""`make notebook`: a notebook on prepared data. It reads as `ops_reader`, through the product's own readers."""
