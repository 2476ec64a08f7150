"""Serves one embedding model over HTTP: fetch and check the file, run llama.cpp in a child, answer."""
