"""What else one could run syncs with, written as a careful engineer would."""
