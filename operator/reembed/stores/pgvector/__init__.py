"""PostgreSQL with pgvector: schema `reembed` beside the application's tables."""
