"""Pages for browsers: templates in ``api/web``, tables and figures of results, forms."""
