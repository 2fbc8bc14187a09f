"""Files for those who run the platform, and the one program among them."""
