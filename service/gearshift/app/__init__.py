"""The composition root: settings in, one running server out."""
