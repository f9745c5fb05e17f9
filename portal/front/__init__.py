"""What stands between the web server and the pages: bodies are here in time, or the request is
refused, before a thread is taken; and nobody has more than a share of the connections."""
