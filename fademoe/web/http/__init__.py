"""HTTP: parameters, problems, authentication, headers, caching, formats."""
