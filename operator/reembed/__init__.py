"""Reembed moves a live RAG index from one embedding model to another on Kubernetes."""
