"""usmctl: the commands for operators."""
