"""An organisation's life on the platform: held still, moved, taken along, and gone without a trace."""
