"""What is built on the application service: the same programs run live and in virtual time."""
