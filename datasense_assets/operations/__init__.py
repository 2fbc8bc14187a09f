"""Looking at the platform as a whole: metrics, doctor, capacity. Reads only; a room below it never needs it."""
