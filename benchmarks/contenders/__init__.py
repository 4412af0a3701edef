"""The programs that read the same account, each a process of its own."""
