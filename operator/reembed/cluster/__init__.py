"""The thin asynchronous client of the Kubernetes API that every room shares."""
