"""`kubectl reembed`: looks at migrations, waits for them, and gives them commands; it decides nothing itself."""
