"""Raw rows as the tensors of a request."""
