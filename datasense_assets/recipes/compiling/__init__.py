"""From a recipe to one SQL statement, through ibis expressions. Everything in here may import ibis at the top."""
