"""Give bundles to others and get them: a Hugging Face repository, a web server, a shared folder; pinned by digest."""
