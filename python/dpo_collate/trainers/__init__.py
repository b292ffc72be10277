"""Drop-ins for the collators of trainers: each a layout table plus the call form of the original."""
